//! Which kernels are sums over near pairs and which are served by meshes, and what that costs.

use super::mesh;
use super::pieces::split;
use super::strips::{REACH, Strips};
use faer::MatRef;
use std::ops::Range;

/// Cells of a gene's mesh for each of its shortest lengthscales, and cells of the window: errors are below 1e-6 of a
/// form's standard deviation.
pub const GENE_CELLS: f64 = 2.0;
/// See [`GENE_CELLS`].
pub const GENE_WIDTH: usize = 8;

/// The same for what is computed once, to about 1e-11.
pub const FINE_CELLS: f64 = 4.0;
/// See [`FINE_CELLS`].
pub const FINE_WIDTH: usize = 12;

/// Kernel values beyond so many lengthscales, 6e-13, are not seen by what is computed once.
pub const FINE_REACH: f64 = 7.5;

/// A gene's mesh serves lengthscales up to so many times its shortest.
const MESH_RANGE: f64 = 4.1;

/// Most cells of a mesh, all pieces together: 5 GB for what is computed once.
pub const MOST_CELLS: f64 = 2e8;

/// Most pairs of near points (a minute of one core for what is computed once).
const MOST_PAIRS: f64 = 1e10;

/// Nanoseconds of a gene for a pair, among other genes; for a cell and for one point in one cell of its window.
const PAIR_COST: f64 = 0.25;
const CELL_COST: f64 = 60.0;
const SPREAD_COST: f64 = 1.5;

/// The points of a sample, and how each lengthscale is served.
pub struct Plan {
    /// Lengthscales from the first on that are sums over pairs.
    pub narrow: usize,
    /// Runs of the other ones that share a mesh, narrowest first.
    pub levels: Vec<Range<usize>>,
}

/// A piece of a sample that needs no mesh: so few points that sums over pairs are as fast.
pub const FEW: usize = 40;

/// A plan for one sample; lengthscales are in ascending order. `None` if one of them can be served by neither.
pub fn plan(
    coords: MatRef<'_, f64>,
    rows: Range<usize>,
    strips: &Strips,
    lengthscales: &[f64],
) -> Result<Plan, usize> {
    let dim = coords.ncols();
    let n = rows.len() as f64;
    let mut narrow = 0;
    let mut wide = false;
    for (k, &l) in lengthscales.iter().enumerate() {
        let fine = cells(coords, rows.clone(), l, FINE_CELLS, FINE_REACH, FINE_WIDTH);
        let fits = fine <= MOST_CELLS;
        if wide {
            if !fits {
                return Err(k);
            }
            continue;
        }
        let gene = cells(coords, rows.clone(), l, GENE_CELLS, REACH, GENE_WIDTH);
        let by_mesh = gene * CELL_COST + n * (GENE_WIDTH as f64).powi(dim as i32) * SPREAD_COST;
        let pairs = strips.pairs(l);
        // Single precision is for sums over a few neighbours.
        let near = pairs <= n * n / 4.0;
        if (near && pairs * PAIR_COST <= by_mesh) || !fits {
            if pairs > MOST_PAIRS {
                return Err(k);
            }
            narrow = k + 1;
        } else {
            wide = true;
        }
    }
    let mut levels = Vec::new();
    let mut from = narrow;
    while from < lengthscales.len() {
        let longest = lengthscales[from] * MESH_RANGE;
        let to = from + lengthscales[from..].iter().take_while(|l| **l <= longest).count();
        levels.push(from..to);
        from = to;
    }
    Ok(Plan { narrow, levels })
}

/// Cells of all meshes that a lengthscale needs.
fn cells(
    coords: MatRef<'_, f64>,
    rows: Range<usize>,
    l: f64,
    fraction: f64,
    reach: f64,
    width: usize,
) -> f64 {
    let rows: Vec<u32> = rows.map(|row| row as u32).collect();
    let dim = coords.ncols();
    split(coords, rows, reach * l)
        .iter()
        .filter(|piece| piece.len() > FEW)
        .map(|piece| {
            let (low, high) = mesh::bounds(coords, piece.iter().map(|&row| row as usize));
            mesh::shape(&low, &high, dim, l / fraction, reach * l, width).iter().product::<f64>()
        })
        .sum()
}
