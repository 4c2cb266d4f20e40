//! How near are the p-values of the grid engine to those of dense matrices with exact moments?
//!
//!     cargo run --release -p patina-studies --example accuracy -- [spots] > bench/results/grid_accuracy.csv
//!
//! Scattered points, a square and a hexagonal lattice of 5,000 (the default), and every second of the default's
//! lengthscales. Genes: noise, waves of growing strength, and counts in few spots beside a smooth function, as residuals of
//! counts are. The score forms and those at a finite noise ratio are matrices here, with exact moments and all
//! eigenvalues. Prints for each layout and kind of gene the number of genes, the median of -log10 p, and the largest
//! relative difference of log p where p is below .1: of single forms of each sort, and of what they combine to with the same
//! weights. A quarter of an hour of one core, and 2 GB.

#[path = "../../core/tests/common/mod.rs"]
mod common;

use common::Random;
use faer::Mat;
use patina_core::grid::basis::{Basis, Entries};
use patina_core::grid::{Grid, GridModel};
use patina_core::model::Model;
use patina_core::null::{DELTAS, GeneMoments, KernelForms, NullForms, dense_forms, score_rows};
use patina_core::{Kernel, Locations, scales};
use std::sync::Arc;

const KINDS: [&str; 3] = ["noise", "wave", "sparse"];
const EACH: usize = 40;

fn locations(layout: &str, n: usize) -> Locations {
    let mut random = Random::new(4);
    let side = (n as f64).sqrt();
    let width = side.ceil() as usize;
    let coords = Mat::from_fn(n, 2, |i, k| {
        let (row, column) = ((i / width) as f64, (i % width) as f64);
        match (layout, k) {
            ("scattered", _) => side * random.uniform(),
            ("square", 0) => column,
            ("square", _) => row,
            (_, 0) => column + 0.5 * (row % 2.0),
            _ => row * 0.75_f64.sqrt(),
        }
    });
    Locations::new(coords.as_ref()).expect("locations")
}

/// A gene: some entries, and so much of the smooth function that all share.
#[derive(Clone, Default)]
struct Gene {
    rows: Vec<u32>,
    values: Vec<f64>,
    coefficient: f64,
}

/// The smooth function.
fn smooth(locations: &Locations) -> Mat<f64> {
    Mat::from_fn(locations.len(), 1, |i, _| 1.0 + 0.1 * (locations.coords()[(i, 0)] / 9.0).sin())
}

/// Genes of all kinds.
fn genes(locations: &Locations) -> Vec<Gene> {
    let mut random = Random::new(5);
    let mut genes = vec![Gene::default(); KINDS.len() * EACH];
    for i in 0..locations.len() {
        for (g, gene) in genes.iter_mut().enumerate() {
            let (kind, copy) = (g / EACH, g % EACH);
            let x = locations.coords().row(i);
            let wave = (x[0] / 4.0 + copy as f64).sin() * (x[1] / 6.0).cos();
            let value = match kind {
                0 => random.normal(),
                1 => 0.02 * (copy + 1) as f64 * wave + random.normal(),
                _ => {
                    gene.coefficient = -1e-3 * (copy + 1) as f64;
                    let chance = (copy + 1) as f64 * 1e-3 * (1.0 + wave);
                    if random.uniform() < chance { 1.0 + random.uniform() } else { 0.0 }
                }
            };
            if value != 0.0 {
                gene.rows.push(i as u32);
                gene.values.push(value);
            }
        }
    }
    genes
}

/// All of a gene's values, centred.
fn values(gene: &Gene, smooth: &Mat<f64>) -> Vec<f64> {
    let mut y: Vec<f64> = smooth.col(0).iter().map(|f| gene.coefficient * f).collect();
    gene.rows.iter().zip(&gene.values).for_each(|(&i, value)| y[i as usize] += value);
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    y.iter_mut().for_each(|v| *v -= mean);
    y
}

/// H K H.
fn score(kernel: Kernel, locations: &Locations) -> Mat<f64> {
    let n = locations.len();
    let k = kernel.at(locations).block(0..n);
    let means: Vec<f64> = k.col_iter().map(|c| c.iter().sum::<f64>() / n as f64).collect();
    let mean = means.iter().sum::<f64>() / n as f64;
    Mat::from_fn(n, n, |i, j| k[(i, j)] - means[i] - means[j] + mean)
}

/// A gene's forms, kernel by kernel, and its moments.
type Forms = (Vec<f64>, GeneMoments);

/// Natural logs of p-values: of each form, and combined.
fn log_p(null: &NullForms, (q, moments): &Forms) -> (Vec<f64>, f64) {
    (null.log_p_values(q, moments), null.p_value(q, moments).log10_pval * std::f64::consts::LN_10)
}

fn main() {
    let n = std::env::args().nth(1).map_or(5000, |text| text.parse().expect("a whole number"));
    println!("layout,spots,gene,genes,median_log10_p,score_difference,finite_difference,difference");
    for layout in ["scattered", "square", "hexagonal"] {
        let locations = locations(layout, n);
        let (genes, smooth) = (genes(&locations), smooth(&locations));
        let lengthscales: Vec<f64> =
            scales::lengthscales(&locations).into_iter().skip(1).step_by(2).collect();
        let grid = Arc::new(Grid::new(&lengthscales, &locations).expect("a grid"));
        let forms: Vec<KernelForms> = (0..lengthscales.len())
            .map(|k| GridModel::new(&grid, k).expect("a model").forms(&locations, &DELTAS))
            .collect();
        let null = NullForms::new(&forms, &locations, &DELTAS).expect("forms");
        let own = grid_forms(&grid, &null, &genes, &smooth);

        let mut y = Mat::<f64>::zeros(n, genes.len());
        for (g, gene) in genes.iter().enumerate() {
            y.col_as_slice_mut(g).copy_from_slice(&values(gene, &smooth));
        }
        let rows = score_rows(&locations, 0..n);
        let (mut exact, mut q) = (Vec::new(), vec![Vec::new(); genes.len()]);
        for (k, &lengthscale) in lengthscales.iter().enumerate() {
            let kernel = Kernel::squared_exponential(lengthscale).expect("a kernel");
            let dense = [Some(score(kernel, &locations)), grid.dense_finite(k, 0)];
            for a in &dense {
                let product = a.as_ref().map(|a| a * &y);
                for (g, q) in q.iter_mut().enumerate() {
                    q.push(product.as_ref().map_or(0.0, |p| y.col(g).transpose() * p.col(g)));
                }
            }
            exact.push(dense_forms(&dense, &rows).expect("eigenvalues"));
        }
        let exact = NullForms::new(&exact, &locations, &DELTAS).expect("forms");

        for (kind, name) in KINDS.iter().enumerate() {
            let mut all = Vec::new();
            let mut largest = [0.0_f64; 3];
            for g in kind * EACH..(kind + 1) * EACH {
                let (forms, combined) = log_p(&null, &own[g]);
                let (expected_forms, expected) =
                    log_p(&exact, &(q[g].clone(), exact.gene(y.col_as_slice(g))));
                let sorts = (0..forms.len()).map(|form| form % DELTAS.len());
                let singly = sorts.zip(forms).zip(expected_forms).map(|((sort, p), e)| (sort, p, e));
                for (sort, p, expected) in singly.chain([(2, combined, expected)]) {
                    assert_eq!(p.is_nan(), expected.is_nan(), "{layout} {name}");
                    if expected < 0.1_f64.ln() {
                        largest[sort] = largest[sort].max((p / expected - 1.0).abs());
                    }
                }
                all.push(-expected * std::f64::consts::LOG10_E);
            }
            all.sort_by(f64::total_cmp);
            let [score, finite, combined] = largest;
            println!(
                "{layout},{n},{name},{EACH},{:.2},{score:.1e},{finite:.1e},{combined:.1e}",
                all[EACH / 2]
            );
        }
    }
}

/// What the grid makes of the genes: of most as of dense ones, of the last kind from the entries and the smooth function.
fn grid_forms(grid: &Grid, null: &NullForms, genes: &[Gene], smooth: &Mat<f64>) -> Vec<Forms> {
    let kernels = grid.lengthscales().len();
    let forms = |all: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..kernels).flat_map(|k| DELTAS.map(|delta| grid.form_at(all, k, delta))).collect()
    };
    let (dense, sparse) = genes.split_at(2 * EACH);
    let mut out: Vec<Forms> = dense
        .chunks(8)
        .flat_map(|genes| {
            let values: Vec<Vec<f64>> = genes.iter().map(|gene| values(gene, smooth)).collect();
            let y = Mat::from_fn(smooth.nrows(), genes.len(), |i, g| values[g][i]);
            let all = grid.forms(y.as_ref()).expect("forms");
            let one = |g: usize| (forms(&|k| all[(k, g)]), null.gene(&values[g]));
            (0..genes.len()).map(one).collect::<Vec<_>>()
        })
        .collect();
    let basis = Basis::new(grid, smooth.as_ref()).expect("a basis");
    let coefficients: Vec<f64> = sparse.iter().map(|gene| gene.coefficient).collect();
    let entries: Vec<Entries<'_>> =
        sparse.iter().map(|gene| Entries { rows: &gene.rows, values: &gene.values }).collect();
    for own in basis.genes(grid, &coefficients, &entries).expect("forms") {
        out.push((forms(&|k| own.forms[k]), null.gene_from_powers(&own.sums)));
    }
    out
}
