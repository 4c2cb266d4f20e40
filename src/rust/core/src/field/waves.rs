//! The posterior of a wide field over very many locations, as a sum of waves.
//!
//! Over a box so large that nothing wraps round, `K = Φ S Φᴴ` with waves Φ at the locations and S the kernel's spectrum, of
//! which only few count. The mean of the field is `Φ S^½ u`, `(S^½ ΦᴴΦ S^½ + delta) u = S^½ Φᴴ y`, by conjugate gradients.
//! An element of ΦᴴΦ depends on the difference of two waves alone: on a mesh it is a product with the density of the
//! locations, so that a step takes two Fourier transforms, however many locations there are (Greengard, Rachh & Barnett
//! 2022, doi:10.48550/arXiv.2210.10210).

use super::Smoother;
use super::dense::Dense;
use crate::error::Result;
use crate::grid::fourier::Workspace;
use crate::grid::mesh::{self, Mesh, bounds};
use crate::grid::pieces::split;
use crate::grid::plan::{FEW, GENE_WIDTH};
use crate::interrupt;
use crate::kd_tree::Point;
use faer::prelude::*;
use rayon::prelude::*;
use realfft::num_complex::Complex;

/// The lengthscale, in spacings, from which on a field is wide: neighbours tell all about narrower ones.
const WIDE: f64 = 1.0;
/// Eigenvalues below this share of delta do not count.
const LEAST: f64 = 1e-5;
/// How far, in lengthscales, the box reaches beyond the points'; with wider gaps there are several boxes.
const REACH: f64 = 5.113;
/// Most cells of all meshes: so many, and so many for each location.
const MOST_CELLS: f64 = 3e5;
const CELLS_EACH: f64 = 16.0;
/// Up to this share of them many columns are fast.
const FAST: f64 = 0.25;
/// Most steps.
const STEPS: usize = 10_000;

/// One sample's field.
pub(super) struct Waves<'a> {
    /// The locations, and below them other places.
    coords: Mat<f64>,
    own: &'a [Point],
    new: &'a [Point],
    lengthscale: f64,
    delta: f64,
    pieces: Vec<Piece>,
    fast: bool,
}

/// A part of the sample that the kernel does not connect with the rest.
struct Piece {
    /// Of the locations, and of other places.
    own: Vec<u32>,
    new: Vec<u32>,
    /// `None` for few points.
    mesh: Option<OnMesh>,
}

struct OnMesh {
    mesh: Mesh<f64>,
    /// The density of the locations, cell by cell.
    density: Vec<f64>,
    waves: Vec<Wave>,
}

/// A wave that counts.
struct Wave {
    /// Where it is in the mesh's spectrum.
    place: usize,
    /// The root of the kernel's spectrum, and that over the window's.
    root: f64,
    end: f64,
    /// How often it counts in a sum over all waves: its conjugate is not held.
    times: f64,
}

impl<'a> Waves<'a> {
    /// With coordinates in spacings. `None` where the field is not wide, or the meshes would be too large.
    pub fn new(own: &'a [Point], new: &'a [Point], dim: usize, lengthscale: f64, delta: f64) -> Option<Self> {
        if lengthscale < WIDE {
            return None;
        }
        let n = own.len();
        let at = |i: usize| if i < n { own[i] } else { new[i - n] };
        let coords = Mat::from_fn(n + new.len(), dim, |i, k| at(i)[k]);
        // About the largest eigenvalue.
        let largest =
            (4.0 * ((2.0 * std::f64::consts::PI).sqrt() * lengthscale).powi(dim as i32)).min(n as f64);
        let band = (2.0 * (largest / (LEAST * delta)).ln().max(1.0)).sqrt() / lengthscale;
        // Differences of two waves are on the mesh too.
        let step = std::f64::consts::PI / (2.0 * band) * 0.997;
        let reach = REACH * lengthscale;
        let most = MOST_CELLS + CELLS_EACH * n as f64;
        let mut left = most;
        let mut pieces = Vec::new();
        for rows in split(coords.as_ref(), (0..coords.nrows() as u32).collect(), reach) {
            let (low, high) = bounds(coords.as_ref(), rows.iter().map(|&row| row as usize));
            let count = rows.partition_point(|&row| (row as usize) < n);
            let (own, new) = (rows[..count].to_vec(), rows[count..].to_vec());
            if count == 0 || rows.len() <= FEW {
                pieces.push(Piece { own, new, mesh: None });
                continue;
            }
            left -= mesh::shape(&low, &high, dim, step, reach, GENE_WIDTH).iter().product::<f64>();
            if left < 0.0 {
                return None;
            }
            let mesh = Mesh::new(low, high, dim, step, reach, GENE_WIDTH);
            let density = mesh.density(coords.as_ref(), &own, high);
            let [root, end] = [0, 1].map(|power| mesh.root_spectrum(lengthscale, band, power));
            let waves = mesh.places().filter(|(_, k)| root.at(*k) > 0.0);
            let waves = waves.map(|(place, k)| Wave {
                place,
                root: root.at(k),
                end: end.at(k),
                times: if k[2] == 0 { 1.0 } else { 2.0 },
            });
            let waves = waves.collect();
            pieces.push(Piece { own, new, mesh: Some(OnMesh { mesh, density, waves }) });
        }
        Some(Self { coords, own, new, lengthscale, delta, pieces, fast: left >= (1.0 - FAST) * most })
    }

    /// Whether draws should be smoothed by this too.
    pub fn is_fast(&self) -> bool {
        self.fast
    }

    /// The field of one column, added to `out`.
    fn smooth_one(
        &self,
        y: &[f64],
        tolerance: f64,
        work: &mut Workspace<f64>,
        out: &mut [f64],
    ) -> Result<()> {
        for Piece { own, new, mesh } in &self.pieces {
            let Some(OnMesh { mesh, density, waves }) = mesh else { continue };
            mesh.clear(work);
            let points = own.iter().map(|&row| (row as usize, y[row as usize]));
            mesh.spread(self.coords.as_ref(), points, work);
            mesh.forward(work);
            let b: Vec<Complex<f64>> = waves.iter().map(|w| work.spectrum[w.place] * w.end).collect();
            // An error of u is one of the field by at most 1 / (2 √delta) of the residual.
            let least = tolerance * 2.0 * (self.delta * own.len() as f64).sqrt();
            let u = solve(mesh, density, waves, self.delta, b, least, work)?;
            mesh.clear_spectrum(work);
            waves.iter().zip(&u).for_each(|(w, u)| work.spectrum[w.place] = u * w.end);
            mesh.backward(work);
            for &row in own.iter().chain(new) {
                out[row as usize] = mesh.interpolate(self.coords.as_ref(), row as usize, work);
            }
        }
        Ok(())
    }

    /// The same of pieces of few points.
    fn smooth_few(&self, y: MatRef<'_, f64>, tolerance: f64, mut out: MatMut<'_, f64>) -> Result<()> {
        let n = self.own.len();
        for piece in self.pieces.iter().filter(|piece| piece.mesh.is_none() && !piece.own.is_empty()) {
            let own: Vec<Point> = piece.own.iter().map(|&row| self.own[row as usize]).collect();
            let new: Vec<Point> = piece.new.iter().map(|&row| self.new[row as usize - n]).collect();
            let y = Mat::from_fn(own.len(), y.ncols(), |i, k| y[(piece.own[i] as usize, k)]);
            let found =
                Dense::new(&own, &new, self.lengthscale, self.delta)?.smooth(y.as_ref(), tolerance)?;
            for (&row, found) in piece.own.iter().chain(&piece.new).zip(found.row_iter()) {
                out.as_mut().row_mut(row as usize).copy_from(found);
            }
        }
        Ok(())
    }
}

/// Conjugate gradients for `(S^½ ΦᴴΦ S^½ + delta) u = b`, until the residual's norm is at most `least`.
fn solve(
    mesh: &Mesh<f64>,
    density: &[f64],
    waves: &[Wave],
    delta: f64,
    b: Vec<Complex<f64>>,
    least: f64,
    work: &mut Workspace<f64>,
) -> Result<Vec<Complex<f64>>> {
    let inner = |a: &[Complex<f64>], b: &[Complex<f64>]| -> f64 {
        let each = waves.iter().zip(a).zip(b);
        each.map(|((w, a), b)| w.times * (a.re * b.re + a.im * b.im)).sum()
    };
    let mut u = vec![Complex::default(); b.len()];
    let mut residual = b;
    let mut direction = residual.clone();
    let mut square = inner(&residual, &residual);
    for _ in 0..STEPS {
        if square <= least * least {
            break;
        }
        interrupt::check()?;
        mesh.clear_spectrum(work);
        waves.iter().zip(&direction).for_each(|(w, x)| work.spectrum[w.place] = x * w.root);
        mesh.times_on_mesh(density, work);
        let product: Vec<Complex<f64>> =
            waves.iter().zip(&direction).map(|(w, x)| work.spectrum[w.place] * w.root + x * delta).collect();
        let step = square / inner(&direction, &product);
        for ((u, r), (x, p)) in u.iter_mut().zip(&mut residual).zip(direction.iter().zip(&product)) {
            *u += x * step;
            *r -= p * step;
        }
        let next = inner(&residual, &residual);
        let keep = next / square;
        direction.iter_mut().zip(&residual).for_each(|(x, r)| *x = r + *x * keep);
        square = next;
    }
    Ok(u)
}

impl Smoother for Waves<'_> {
    fn smooth(&self, y: MatRef<'_, f64>, tolerance: f64) -> Result<Mat<f64>> {
        let mut out = Mat::zeros(self.coords.nrows(), y.ncols());
        self.smooth_few(y, tolerance, out.as_mut())?;
        let columns: Vec<Result<Vec<f64>>> = (0..y.ncols())
            .into_par_iter()
            .map_init(Workspace::default, |work, k| {
                let y: Vec<f64> = y.col(k).iter().copied().collect();
                let mut column = vec![0.0; self.coords.nrows()];
                self.smooth_one(&y, tolerance, work, &mut column)?;
                Ok(column)
            })
            .collect();
        for (k, column) in columns.into_iter().enumerate() {
            out.col_as_slice_mut(k).iter_mut().zip(column?).for_each(|(out, x)| *out += x);
        }
        Ok(out)
    }
}
