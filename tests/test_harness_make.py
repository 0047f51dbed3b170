"""What make does when it is interrupted, started twice, moved, or run where something is missing or in the way."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_harness import book, project

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import environment  # noqa: E402
import kept  # noqa: E402

QUICK = "print(6 * 7)"
# Goes on as soon as there is a file.
SLOW = "import time\nfrom pathlib import Path\nwhile not Path({}).exists(): time.sleep(0.1)\nprint('went on')"


def make(folder: Path, *words: str) -> list[str]:
    """Return a call of make that takes the environment of these tests and renders nothing."""
    return ["make", "-o", "environment", f"BIN={Path(sys.executable).parent}", "render=true", *words]


@pytest.fixture(autouse=True)
def no_make_above(monkeypatch):
    """`make test` itself is no part of what is tested: a make below another says where it enters and leaves."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path):
    """A book of three chapters, two of which wait."""
    slow = SLOW.format(repr(str(tmp_path / "go")))
    made = project(tmp_path / "p", quick=book(only=QUICK), slow=book(only=slow), later=book(first="1", only=slow))
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, made)
    (made / "_config.yml").touch()
    return made


@contextlib.contextmanager
def started(folder: Path, *words: str):
    """Start make; wait until it has told that the quick chapter is done."""
    shown = folder / "shown.txt"
    with shown.open("w") as file:
        running = subprocess.Popen(
            make(folder, *words), cwd=folder, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while "quick.ipynb:" not in shown.read_text() or len(kernels(folder)) < 1:
                assert running.poll() is None, shown.read_text()
                time.sleep(0.05)
            yield running, shown
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def kernels(folder: Path) -> list[str]:
    """Return the kernels of a book's notebooks that run."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc to look for kernels in")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text().replace("\0", " "))
    return [line for line in found if str(folder / "tools" / "kernels") in line]


def stop(folder: Path, way: str) -> str:
    """Stop a make book after its first chapter; return what it said."""
    with started(folder, "book") as (running, shown):
        start = time.monotonic()
        if way == "Ctrl-C":
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        else:
            running.terminate()
        running.wait(timeout=10)
        while kernels(folder) and time.monotonic() - start < 10:
            time.sleep(0.05)
        assert time.monotonic() - start < 2
        return shown.read_text()


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM"])
def test_an_interrupted_make_book_ends_at_once_and_without_a_kernel(folder, way):
    said = stop(folder, way)
    assert "stopped: 1 of 3 notebooks are done; `make book` goes on from there" in said, said
    assert "Traceback" not in said and "failed." not in said, said


def go_on(folder: Path) -> list[str]:
    """Run make book to its end; return its lines."""
    done = subprocess.run(make(folder, "book"), cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_an_interrupted_make_book_goes_on_next_time(folder, tmp_path):
    stop(folder, "Ctrl-C")
    (tmp_path / "go").touch()
    lines = go_on(folder)
    assert ["before" in line for line in lines if "quick.ipynb: " in line] == [True]
    assert ["before" in line for line in lines if "slow.ipynb: " in line] == [False]
    assert lines[-1].startswith("MOVED: outputs differ from the stored ones in later.ipynb (2), quick.ipynb (1)")
    source = folder / "_build" / "book" / "source" / "book"
    executed = {path.stem: path.read_text() for path in source.glob("*.ipynb")}
    assert "42" in executed["quick"] and "went on" in executed["slow"] and "went on" in executed["later"]
    assert "quick.ipynb`, cell-0: `new`" in (source / "execution.md").read_text()
    # What is not as it was is executed again.
    notebook = folder / "book" / "quick.ipynb"
    notebook.write_text(notebook.read_text().replace("6 * 7", "6 * 8"))
    assert ["before" in line for line in go_on(folder) if ".ipynb: " in line] == [True, True, False]


@pytest.mark.parametrize("name", ["lib/peerflow/new.py", "requirements.lock", "tools/harness/text.py"])
def test_a_notebook_is_kept_as_long_as_all_that_its_outputs_come_from(folder, tmp_path, monkeypatch, name):
    monkeypatch.setattr(kept, "ROOT", folder)
    file = kept.Kept(tmp_path).file(folder / "book" / "quick.ipynb")
    assert kept.Kept(tmp_path).file(folder / "book" / "quick.ipynb") == file
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as changed:
        changed.write("# changed\n")
    assert kept.Kept(tmp_path).file(folder / "book" / "quick.ipynb") != file
    monkeypatch.setenv("NOTEBOOK_ENVIRONMENT", "OMP_NUM_THREADS=2")
    assert kept.Kept(tmp_path).file(folder / "book" / "quick.ipynb") != file


def test_a_second_make_book_says_why_not(folder):
    with started(folder, "book") as (running, _):
        before = (folder / "_build" / "book" / "source" / "book" / "slow.ipynb").stat()
        for target in ("book", "html"):
            second = subprocess.run(make(folder, target), cwd=folder, capture_output=True, text=True)
            assert second.returncode != 0
            assert f"another make, process {running.pid}, works in _build/book: wait until it has" in second.stderr
        assert (folder / "_build" / "book" / "source" / "book" / "slow.ipynb").stat() == before
        # Tests build elsewhere.
        other = [sys.executable, "tools/alone.py", "_build/test", str(os.getpid())]
        assert subprocess.run(other, cwd=folder).returncode == 0
    running.wait()
    # It was killed, so it could not tidy up.
    free = [sys.executable, "tools/alone.py", "_build/book", str(os.getpid())]
    assert subprocess.run(free, cwd=folder).returncode == 0


def test_tests_leave_the_pages_of_the_book_alone():
    dry = {
        target: subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True).stdout
        for target in ("book", "test")
    }
    assert "--path-output . _build/book/source" in dry["book"] and "rm -rf _build/book/source" in dry["book"]
    assert "--path-output _build/test _build/test/source" in dry["test"] and "_build/book" not in dry["test"]
    assert "--path-output . " not in dry["test"]
    # The browser looks at what was tested.
    assert "PEERFLOW_PAGES=_build/test/_build/html" in dry["test"]


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """A folder with an environment in it, and what is run to make another."""
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    where = tmp_path / ".venv"
    called = []

    def call(command, env):
        called.append(command)
        lay_out(where)
        return 0

    def done(commands):
        called.extend(commands)
        return True

    def lay_out(where, python=None):
        (where / "bin").mkdir(parents=True)
        (where / "bin" / "python").symlink_to(sys.executable)
        (where / "bin" / "jupyter-book").write_text(f"#!{python or where / 'bin' / 'python'}\n")

    names = {"ROOT": tmp_path, "VENV": where, "PYTHON": where / "bin/python", "READY": where / "ready"}
    for name, value in {**names, "SCRIPT": where / "bin/jupyter-book"}.items():
        monkeypatch.setattr(environment, name, value)
    monkeypatch.setattr(environment.subprocess, "call", call)
    monkeypatch.setattr(environment, "_done", done)
    lay_out(where)
    (where / "ready").write_text(environment._made_from())
    return where, called


def test_an_environment_that_fits_is_kept(venv):
    assert environment.main() is None and not venv[1]


def test_a_changed_project_is_installed_again_and_nothing_else(venv):
    where, called = venv
    (where / "old").touch()
    with (where.parent / "pyproject.toml").open("a") as changed:
        changed.write("# changed\n")
    assert environment.main() is None and (where / "old").exists()
    assert [command[-2:] for command in called] == [["--editable", "."]]
    assert environment.main() is None and len(called) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda where: (where / "bin/jupyter-book").write_text("#!/elsewhere/.venv/bin/python\n"), "in another folder"),
        (
            lambda where: ((where / "bin/python").unlink(), (where / "bin/python").symlink_to("/gone")),
            "lost the Python",
        ),
        (lambda where: (where / "ready").unlink(), "never finished"),
        # What the lock names no longer would stay.
        (lambda where: (where.parent / "requirements.lock").write_text("jax==0\n"), "another requirements.lock"),
    ],
    ids=["moved", "without its Python", "unfinished", "of another lock"],
)
def test_an_environment_that_cannot_work_is_made_anew(venv, capsys, change, said):
    where, called = venv
    (where / "old").touch()
    change(where)
    assert environment.main() is None
    assert said in capsys.readouterr().out and not (where / "old").exists()
    assert ["venv" in command for command in called] == [True, False, False, False, False]
    assert environment.main() is None and len(called) == 5


def test_both_halves_are_the_lock(venv):
    halves = [Path(half).read_text() for half in environment._halves()]
    lock = (ROOT / "requirements.lock").read_text()
    assert sorted("".join(halves).splitlines()) == sorted(lock.splitlines())
    assert all(half[0] != " " and 80 < half.count("==") < 120 for half in halves)


def test_an_installation_of_which_a_half_fails_is_not_done():
    good, bad = ([sys.executable, "-c", f"raise SystemExit({code})"] for code in (0, 1))
    assert environment._done([good, good]) and not environment._done([bad, good]) and not environment._done([good, bad])


def test_settings_for_pip_do_not_put_packages_elsewhere(monkeypatch, tmp_path):
    """As they are, pip refuses to install into an environment."""
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "pip"]
    monkeypatch.setenv("PIP_USER", "1")
    theirs = subprocess.run(install, capture_output=True, text=True)
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    ours = subprocess.run(install, env=environment.variables(), capture_output=True, text=True)
    assert theirs.returncode != 0 and "--user" in theirs.stderr
    assert ours.returncode == 0, ours.stderr


def test_a_python_that_is_missing_or_too_old_is_named(monkeypatch):
    done = subprocess.run(["make", "book", "PYTHON=python3.99"], cwd=ROOT, capture_output=True, text=True)
    line, rest = done.stderr.split("\n", 1)
    assert line == "there is no python3.99 here: name a Python 3.11 to 3.13, as in make PYTHON=python3.12"
    assert done.returncode != 0 and "not found" not in rest
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert environment.main().startswith("this book needs Python 3.11 to 3.13, and ")


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        serve = [sys.executable, "tools/serve.py", str(tmp_path), str(port)]
        done = subprocess.run(serve, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.startswith(f"port {port} cannot be used (") and f"make serve PORT={port + 1}\n" in done.stderr


@pytest.fixture
def in_git():
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")


def test_a_clone_with_other_line_ends_has_ours(tmp_path, in_git):
    git = ["git", "-c", "core.autocrlf=true"]
    subprocess.run([*git, "clone", "--quiet", "--depth=1", f"file://{ROOT}", "clone"], cwd=tmp_path, check=True)
    script = tmp_path / "clone" / "postBuild"
    assert script.stat().st_mode & stat.S_IXUSR and b"\r" not in script.read_bytes()
    assert b"\r" not in (tmp_path / "clone" / "book" / "dgd.ipynb").read_bytes()
    status = [*git, "status", "--porcelain"]
    assert subprocess.run(status, cwd=tmp_path / "clone", capture_output=True, text=True, check=True).stdout == ""


def test_what_pip_leaves_behind_is_ignored(in_git):
    left = ["build/lib/peerflow/flows.py", "lib/peerflow.egg-info/PKG-INFO"]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == left
