//! Genes that are a combination of few functions of the locations, which all genes share, plus few entries.
//!
//! Residuals of counts are of this kind: at a zero count they are a smooth function of a spot's depth. With
//! y = B c + e, `yᵀ K y = cᵀ BᵀKB c + 2 eᵀ (KB) c + eᵀ K e`; for meshes the spread B is combined with the spread e.

use super::Grid;
use super::fourier::Workspace;
use super::strips::LANES;
use crate::error::{Result, check_size};
use crate::interrupt;
use crate::simd::{dot, dot_by, vectorized};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Functions of the locations, with their products. The last one is constant: genes are centred by it.
pub struct Basis {
    /// n × functions.
    values: Mat<f64>,
    samples: Vec<SampleBasis>,
}

struct SampleBasis {
    /// Sums of the functions.
    sums: Vec<f64>,
    near: Vec<Near>,
    /// For each level and piece, the spread functions one after the other.
    spread: Vec<Vec<Vec<f32>>>,
    /// For each kernel with a form at a finite noise ratio, and its pieces: the functions times its weights, spread.
    finite: Vec<Vec<Vec<f32>>>,
}

/// Products with a narrow kernel.
struct Near {
    /// K B by place, a location's values side by side.
    product: Vec<f32>,
    /// Bᵀ K B.
    gram: Mat<f64>,
}

/// A gene's entries: rows in ascending order, and what they have beside the combination.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    /// Rows, ascending.
    pub rows: &'a [u32],
    /// Values.
    pub values: &'a [f64],
}

/// Power sums of a centred gene in one sample: Σ y², Σ y³, Σ y⁴ and Σ y⁶.
pub type PowerSums = [f64; 4];

/// What comes of one gene.
#[derive(Debug, Clone)]
pub struct SparseGene {
    /// y'Ky for each kernel, then the forms at the finite noise ratio; y centred within samples. See [`Grid::forms`].
    pub forms: Vec<f64>,
    /// For each sample.
    pub sums: Vec<PowerSums>,
    /// For each sample.
    pub means: Vec<f64>,
}

impl Basis {
    /// Products of the functions, the columns of `functions` (n × functions, a constant is added), in the current rayon
    /// pool.
    pub fn new(grid: &Grid, functions: MatRef<'_, f64>) -> Result<Self> {
        let (n, coords) = (grid.locations.len(), grid.locations.coords());
        check_size("rows of the basis", n, functions.nrows())?;
        let count = functions.ncols() + 1;
        let values = Mat::from_fn(n, count, |i, j| if j + 1 < count { functions[(i, j)] } else { 1.0 });
        let mut samples = Vec::new();
        interrupt::expect(
            grid.samples.iter().map(|s| s.plan.narrow * count.div_ceil(LANES) + s.levels.len()).sum(),
        );
        for sample in &grid.samples {
            let rows = sample.rows.clone();
            let sums =
                (0..count).map(|j| values.col(j).subrows(rows.start, rows.len()).iter().sum()).collect();
            let mut near: Vec<Near> = (0..sample.plan.narrow)
                .map(|_| Near { product: vec![0.0; rows.len() * count], gram: Mat::zeros(count, count) })
                .collect();
            for from in (0..count).step_by(LANES) {
                let columns = LANES.min(count - from);
                let lanes: Vec<[f64; LANES]> = sample
                    .strips
                    .rows()
                    .iter()
                    .map(|&row| {
                        std::array::from_fn(
                            |j| if j < columns { values[(row as usize, from + j)] } else { 0.0 },
                        )
                    })
                    .collect();
                for (k, near) in near.iter_mut().enumerate() {
                    interrupt::check()?;
                    let product = sample.strips.product(grid.lengthscales[k], &lanes);
                    for (place, (product, &row)) in product.iter().zip(sample.strips.rows()).enumerate() {
                        for (j, product) in product[..columns].iter().enumerate() {
                            near.product[place * count + from + j] = *product as f32;
                            for i in 0..count {
                                near.gram[(i, from + j)] += values[(row as usize, i)] * product;
                            }
                        }
                    }
                    interrupt::step();
                }
            }
            // The columns one after the other, each spread by some mesh.
            let columns = |spread: &Spread<'_>| {
                let columns: Vec<Vec<f32>> = (0..count)
                    .into_par_iter()
                    .with_max_len(1)
                    .map(|j| {
                        let mut work = Workspace::default();
                        let column = values.col(j);
                        spread(&|row| column[row], &mut work);
                        work.values
                    })
                    .collect();
                columns.concat()
            };
            let spread = sample
                .levels
                .iter()
                .map(|pieces| {
                    interrupt::step();
                    pieces
                        .iter()
                        .map(|piece| {
                            let Some((mesh, _)) = &piece.mesh else { return Vec::new() };
                            columns(&|value, work| {
                                mesh.clear(work);
                                let value = |&row: &u32| (row as usize, value(row as usize) as f32);
                                mesh.spread_fast(coords, piece.rows.iter().map(value), work);
                            })
                        })
                        .collect()
                })
                .collect();
            let finite = sample
                .finite
                .iter()
                .map(|finite| {
                    let Some(finite) = finite else { return Vec::new() };
                    (0..finite.cells().count())
                        .map(|piece| {
                            columns(&|value, work| {
                                finite.clear(piece, work);
                                finite.spread_all(coords, piece, value, work);
                            })
                        })
                        .collect()
                })
                .collect();
            samples.push(SampleBasis { sums, near, spread, finite });
        }
        Ok(Self { values, samples })
    }

    /// Number of functions without the constant.
    pub fn functions(&self) -> usize {
        self.values.ncols() - 1
    }

    /// Forms and power sums of some genes: `coefficients` is functions × samples for each gene, one after the other
    /// (functions vary fastest), `entries` are each gene's.
    pub fn genes(
        &self,
        grid: &Grid,
        coefficients: &[f64],
        entries: &[Entries<'_>],
    ) -> Result<Vec<SparseGene>> {
        let (functions, samples, kernels) = (self.functions(), grid.samples.len(), grid.lengthscales.len());
        let mut genes: Vec<SparseGene> = entries
            .iter()
            .map(|_| SparseGene { forms: vec![0.0; 2 * kernels], sums: Vec::new(), means: Vec::new() })
            .collect();
        let mut work = Workspace::default();
        let mut values = vec![Vec::new(); entries.len()];
        let coords = grid.locations.coords();
        for (s, sample) in grid.samples.iter().enumerate() {
            interrupt::check()?;
            let basis = &self.samples[s];
            let rows = sample.rows.clone();
            // The gene's entries in this sample, and its coefficients with the constant that centres it.
            let own: Vec<Entries<'_>> = entries
                .iter()
                .map(|e| {
                    let from = e.rows.partition_point(|&row| (row as usize) < rows.start);
                    let to = e.rows.partition_point(|&row| (row as usize) < rows.end);
                    Entries { rows: &e.rows[from..to], values: &e.values[from..to] }
                })
                .collect();
            let mut combined = Mat::<f64>::zeros(functions + 1, entries.len());
            for (g, own) in own.iter().enumerate() {
                let c = &coefficients[(g * samples + s) * functions..][..functions];
                let total = dot(c, &basis.sums[..functions]) + own.values.iter().sum::<f64>();
                let mean = total / rows.len() as f64;
                c.iter().enumerate().for_each(|(j, c)| combined[(j, g)] = *c);
                combined[(functions, g)] = -mean;
                genes[g].means.push(mean);
            }
            self.power_sums(rows.clone(), combined.as_ref(), &own, &mut genes);
            for (g, own) in own.iter().enumerate() {
                interrupt::check()?;
                let c = combined.col_as_slice(g);
                if sample.plan.narrow > 0 {
                    let e = sample
                        .strips
                        .sparse(own.rows.iter().zip(own.values).map(|(&row, &value)| (row as usize, value)));
                    for (k, near) in basis.near.iter().enumerate() {
                        let mut form = 0.0;
                        for j in 0..=functions {
                            form += c[j] * dot(c, near.gram.col_as_slice(j));
                        }
                        let mut cross = 0.0;
                        vectorized!(for (&place, &value) in e.places.iter().zip(&e.values) {
                            let products = &near.product[place as usize * (functions + 1)..][..functions + 1];
                            cross += value * dot_by::<4, f32>(products, c);
                        });
                        form += 2.0 * cross + sample.strips.sparse_form(grid.lengthscales[k], &e);
                        genes[g].forms[k] += form;
                    }
                }
            }
            let together = combined.as_ref();
            for (level, (range, pieces)) in sample.plan.levels.iter().zip(&sample.levels).enumerate() {
                for (piece, spread) in pieces.iter().zip(&basis.spread[level]) {
                    let whole = pieces.len() == 1;
                    if let Some((mesh, ..)) = &piece.mesh {
                        combine(spread, together, mesh.cells(), &mut values);
                    }
                    for (g, own) in own.iter().enumerate() {
                        interrupt::check()?;
                        let c = combined.col_as_slice(g);
                        let forms = &mut genes[g].forms[range.clone()];
                        let entries = own.rows.iter().zip(own.values);
                        let inside = entries
                            .filter(|(row, _)| whole || piece.rows.binary_search(row).is_ok())
                            .map(|(&row, &value)| (row as usize, value as f32));
                        let Some((mesh, weights)) = &piece.mesh else {
                            let dense: Vec<f64> = piece
                                .rows
                                .iter()
                                .map(|&row| {
                                    let entry = own.rows.binary_search(&row).map_or(0.0, |at| own.values[at]);
                                    let functions = 0..=functions;
                                    entry
                                        + functions
                                            .map(|j| c[j] * self.values[(row as usize, j)])
                                            .sum::<f64>()
                                })
                                .collect();
                            let value = |row: usize| {
                                piece.rows.binary_search(&(row as u32)).map_or(0.0, |at| dense[at])
                            };
                            grid.few(&piece.rows, range.clone(), value, forms);
                            continue;
                        };
                        std::mem::swap(&mut work.values, &mut values[g]);
                        mesh.spread_fast(coords, inside, &mut work);
                        mesh.forms(&mut work, weights, forms);
                    }
                }
            }
            for (k, finite) in sample.finite.iter().enumerate() {
                let Some(finite) = finite else { continue };
                for (piece, (cells, spread)) in finite.cells().zip(&basis.finite[k]).enumerate() {
                    combine(spread, together, cells, &mut values);
                    for (g, own) in own.iter().enumerate() {
                        interrupt::check()?;
                        std::mem::swap(&mut work.values, &mut values[g]);
                        let entries = own.rows.iter().zip(own.values).map(|(&row, &v)| (row as usize, v));
                        finite.spread(coords, piece, entries, &mut work);
                        genes[g].forms[kernels + k] += finite.form(piece, &mut work);
                    }
                }
            }
        }
        Ok(genes)
    }

    /// Power sums of genes in one sample, from their values, a few rows at a time.
    fn power_sums(
        &self,
        rows: std::ops::Range<usize>,
        combined: MatRef<'_, f64>,
        entries: &[Entries<'_>],
        genes: &mut [SparseGene],
    ) {
        const ROWS: usize = 512;
        let mut tile = Mat::<f64>::zeros(ROWS, combined.ncols());
        let mut sums = vec![[0.0; 4]; entries.len()];
        let mut next = vec![0; entries.len()];
        let mut from = rows.start;
        while from < rows.end {
            let count = ROWS.min(rows.end - from);
            let rows = self.values.subrows(from, count);
            matmul(tile.as_mut().subrows_mut(0, count), Accum::Replace, rows, combined, 1.0, Par::Seq);
            for (g, entries) in entries.iter().enumerate() {
                let column = &mut tile.col_as_slice_mut(g)[..count];
                while next[g] < entries.rows.len() && (entries.rows[next[g]] as usize) < from + count {
                    column[entries.rows[next[g]] as usize - from] += entries.values[next[g]];
                    next[g] += 1;
                }
                let mut lanes = [[0.0; 4]; 4];
                vectorized!(for values in column.chunks(4) {
                    for (lane, v) in values.iter().enumerate() {
                        let square = v * v;
                        lanes[0][lane] += square;
                        lanes[1][lane] += square * v;
                        lanes[2][lane] += square * square;
                        lanes[3][lane] += square * square * square;
                    }
                });
                for (sum, lanes) in sums[g].iter_mut().zip(&lanes) {
                    *sum += lanes.iter().sum::<f64>();
                }
            }
            from += count;
        }
        genes.iter_mut().zip(sums).for_each(|(gene, sums)| gene.sums.push(sums));
    }
}

/// Spreads a function of the rows on a mesh.
type Spread<'a> = dyn Fn(&dyn Fn(usize) -> f64, &mut Workspace<f32>) + Sync + 'a;

/// Spread functions, one after the other, times the coefficients of each gene (functions × genes): values on the mesh.
fn combine(spread: &[f32], coefficients: MatRef<'_, f64>, cells: usize, values: &mut [Vec<f32>]) {
    /// So few that all functions' stay near while genes take turns.
    const CELLS: usize = 2048;
    for values in &mut *values {
        values.clear();
        values.resize(cells, 0.0);
    }
    vectorized!(for from in (0..cells).step_by(CELLS) {
        let range = from..cells.min(from + CELLS);
        for (values, c) in values.iter_mut().zip(coefficients.col_iter()) {
            let own = &mut values[range.clone()];
            for (column, c) in spread.chunks_exact(cells).zip(c.iter()) {
                let c = *c as f32;
                for (cell, value) in own.iter_mut().zip(&column[range.clone()]) {
                    *cell += c * value;
                }
            }
        }
    });
}
