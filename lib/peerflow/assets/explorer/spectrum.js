// Eigenvalues: all of a small matrix, and the outermost of a large one that is known by its products.
import { uniform } from "./graphs.js";
import { stepper } from "./solver.js";

// So large a Krylov space is searched: all of the space where it is smaller, then nothing is approximated.
const SEARCHED = 64;
const EPSILON = 2 ** -52;

// The eigenvalues of W, a list of rows, by decreasing real part: pairs [real, imaginary].
export function eigenvalues(W) {
  const size = W.length;
  const product = (x, out) => W.forEach((row, q) => (out[q] = row.reduce((sum, weight, r) => sum + weight * x[r], 0)));
  return ofHessenberg(hessenberg(product, size, size));
}

// The largest |1 + lambda| and the largest real part of all eigenvalues lambda of the state matrix A.
export function stability(system) {
  const size = system.pull.length;
  const found = ofHessenberg(hessenberg(stepper(system, false), size, Math.min(size, SEARCHED)));
  const radius = Math.max(0, ...found.map(([re, im]) => Math.hypot(re, im)));
  return { radius, abscissa: Math.max(-1, ...found.map(([re]) => re)) - 1 };
}

// The matrix of a product in an orthonormal basis that a random vector spans (Arnoldi): rows that are zero to the left
// of their subdiagonal. Where the vector's space ends, another vector goes on.
function hessenberg(product, size, steps) {
  const draw = uniform(1);
  const basis = [];
  const H = Array.from({ length: steps }, () => new Float64Array(steps));
  const fresh = () => Float64Array.from({ length: size }, () => draw() - 0.5);
  let vector = fresh();
  normalize(vector, Math.hypot(...vector));
  for (let j = 0; j < steps; j++) {
    basis.push(vector);
    let image = new Float64Array(size);
    product(vector, image);
    const before = norm(image);
    orthogonalize(image, basis, (i, part) => (H[i][j] += part));
    let left = norm(image);
    if (j + 1 === steps) break;
    if (left > 16 * EPSILON * before) {
      H[j + 1][j] = left;
    } else {
      image = fresh();
      orthogonalize(image, basis, () => {});
      left = norm(image);
    }
    normalize(image, left);
    vector = image;
  }
  return H;
}

// Take off all parts along the basis, again until rounding has left none.
function orthogonalize(vector, basis, told) {
  for (let before = Infinity, left = norm(vector); left < 0.7 * before && left > 0; ) {
    basis.forEach((direction, i) => {
      let part = 0;
      for (let k = 0; k < vector.length; k++) part += direction[k] * vector[k];
      for (let k = 0; k < vector.length; k++) vector[k] -= part * direction[k];
      told(i, part);
    });
    [before, left] = [left, norm(vector)];
  }
}

const norm = (vector) => Math.sqrt(vector.reduce((sum, entry) => sum + entry * entry, 0));

function normalize(vector, length) {
  for (let k = 0; k < vector.length; k++) vector[k] /= length;
}

// All eigenvalues of a Hessenberg matrix, which is used up: the QR algorithm with two shifts (Francis; EISPACK's hqr).
export function ofHessenberg(H) {
  const found = [];
  const scale = H.reduce((sum, row) => Math.max(sum, ...row.map(Math.abs)), 0);
  let shifted = 0;
  for (let n = H.length - 1, tries = 0; n >= 0; ) {
    const low = splits(H, n, scale);
    if (low === n) {
      found.push([H[n][n] + shifted, 0]);
      n -= 1;
      tries = 0;
    } else if (low === n - 1) {
      found.push(...pair(H, n, shifted));
      n -= 2;
      tries = 0;
    } else {
      if (++tries % 10 === 0) shifted += exceptional(H, n);
      if (tries > 60) throw new Error("the QR algorithm did not converge");
      sweep(H, low, n, tries % 10 === 0);
    }
  }
  return found.sort((a, b) => b[0] - a[0] || b[1] - a[1]);
}

// The first row of the block that ends with row n: above it the subdiagonal is zero to rounding.
function splits(H, n, scale) {
  let low = n;
  for (; low > 0; low--) {
    const around = Math.abs(H[low - 1][low - 1]) + Math.abs(H[low][low]) || scale;
    if (Math.abs(H[low][low - 1]) <= EPSILON * around) break;
  }
  if (low > 0) H[low][low - 1] = 0;
  return low;
}

// The eigenvalues of the two by two block that ends with row n.
function pair(H, n, shifted) {
  const half = (H[n - 1][n - 1] - H[n][n]) / 2;
  const product = H[n][n - 1] * H[n - 1][n];
  const root = Math.sqrt(Math.abs(half * half + product));
  const middle = H[n][n] + shifted + half;
  if (half * half + product < 0) return [[middle, root], [middle, -root]];
  const far = half + Math.sign(half || 1) * root;
  return [[H[n][n] + shifted + far, 0], [H[n][n] + shifted - (far && product / far), 0]];
}

// Shift the matrix itself, where the usual shifts go in circles.
function exceptional(H, n) {
  const shift = H[n][n];
  for (let i = 0; i <= n; i++) H[i][i] -= shift;
  return shift;
}

// One sweep over the block from low to n: Householder reflections of three rows and columns chase the bulge down.
function sweep(H, low, n, odd) {
  const size = Math.abs(H[n][n - 1]) + Math.abs(H[n - 1][n - 2]);
  const sum = odd ? 1.5 * size : H[n - 1][n - 1] + H[n][n];
  const product = odd ? size * size : H[n - 1][n - 1] * H[n][n] - H[n][n - 1] * H[n - 1][n];
  let x = H[low][low] * (H[low][low] - sum) + H[low][low + 1] * H[low + 1][low] + product;
  let y = H[low + 1][low] * (H[low][low] + H[low + 1][low + 1] - sum);
  let z = H[low + 2][low + 1] * H[low + 1][low];
  for (let k = low; k < n; k++) {
    const rows = k + 2 <= n ? 3 : 2;
    if (k > low) [x, y, z] = [H[k][k - 1], H[k + 1][k - 1], rows === 3 ? H[k + 2][k - 1] : 0];
    if (rows === 2) z = 0;
    const length = Math.hypot(x, y, z);
    if (length === 0) continue;
    const v = [x + Math.sign(x || 1) * length, y, z].slice(0, rows);
    const beta = 2 / v.reduce((total, entry) => total + entry * entry, 0);
    for (let j = Math.max(low, k - 1); j <= n; j++) {
      let dot = 0;
      for (let i = 0; i < rows; i++) dot += v[i] * H[k + i][j];
      for (let i = 0; i < rows; i++) H[k + i][j] -= beta * dot * v[i];
    }
    for (let i = low; i <= Math.min(n, k + 3); i++) {
      let dot = 0;
      for (let j = 0; j < rows; j++) dot += v[j] * H[i][k + j];
      for (let j = 0; j < rows; j++) H[i][k + j] -= beta * dot * v[j];
    }
    for (let i = 1; i < rows && k > low; i++) H[k + i][k - 1] = 0;
  }
}
