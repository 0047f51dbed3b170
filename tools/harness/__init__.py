"""When do a notebook's stored outputs agree with new ones? One answer, for the tests and for ``make notebooks``.

- ``text``: numbers to a relative tolerance, everything else exactly.
- ``pictures``: PNGs as images, stored in few colours.
- ``outputs``: a cell's outputs, by MIME type.
- ``widgets``: the state with which widgets work in the rendered page, ids aside.
- ``rules``: what a stored notebook must have, so that comparing it means something.
- ``solutions``: the code in solutions to exercises, which must run and print what they show.
- ``record``: which kernel runs, and what it sends, as outputs and widget state.
"""
