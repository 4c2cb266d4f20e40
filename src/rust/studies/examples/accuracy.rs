//! How near are the p-values of the grid engine to those of dense matrices with exact moments?
//!
//!     cargo run --release -p patina-studies --example accuracy -- [spots] > bench/results/accuracy.csv
//!
//! Scattered points and a square lattice of 5,000 (the default); the score forms of three kernels, one of them a sum
//! over near pairs, the others by Fourier transforms. Genes: noise, waves of growing strength, and counts in few spots.
//! Prints for each layout and kind of gene the number of genes, the median of -log10 p, and the largest relative difference
//! of log p (of genes with p below .1). Dense forms take minutes each.

#[path = "../../core/tests/common/mod.rs"]
mod common;

use common::Random;
use faer::Mat;
use patina_core::engine::Fit;
use patina_core::model::Block;
use patina_core::null::{KernelForms, NullForms, dense_forms};
use patina_core::{Approximation, Kernel, Locations, Request, prepare};

const LENGTHSCALES: [f64; 3] = [0.8, 3.0, 12.0];
const KINDS: [&str; 3] = ["noise", "wave", "sparse"];
const EACH: usize = 40;

fn locations(layout: &str, n: usize) -> Locations {
    let mut random = Random::new(4);
    let side = (n as f64).sqrt();
    let width = side.ceil() as usize;
    let at = |i: usize, k: usize| (if k == 0 { i % width } else { i / width }) as f64;
    let coords = if layout == "square" {
        Mat::from_fn(n, 2, at)
    } else {
        Mat::from_fn(n, 2, |_, _| side * random.uniform())
    };
    Locations::new(coords.as_ref()).expect("locations")
}

/// Genes of all kinds, centred and scaled.
fn genes(locations: &Locations) -> Mat<f64> {
    let mut random = Random::new(5);
    let n = locations.len();
    let mut y = Mat::from_fn(n, KINDS.len() * EACH, |i, g| {
        let (kind, copy) = (g / EACH, g % EACH);
        let x = locations.coords().row(i);
        let wave = (x[0] / 4.0 + copy as f64).sin() * (x[1] / 6.0).cos();
        match kind {
            0 => random.normal(),
            1 => 0.02 * (copy + 1) as f64 * wave + random.normal(),
            _ => {
                let chance = (copy + 1) as f64 * 1e-3 * (1.0 + wave);
                if random.uniform() < chance { 1.0 + random.uniform() } else { 0.0 }
            }
        }
    });
    for g in 0..y.ncols() {
        let column = y.col_as_slice_mut(g);
        let mean = column.iter().sum::<f64>() / n as f64;
        column.iter_mut().for_each(|v| *v -= mean);
        let scale = (column.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
        column.iter_mut().for_each(|v| *v /= scale);
    }
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

fn main() {
    let n = std::env::args().nth(1).map_or(5000, |text| text.parse().expect("a whole number"));
    let deltas = [f64::INFINITY];
    println!("layout,spots,gene,genes,median_log10_p,largest_difference");
    for layout in ["scattered", "square"] {
        let locations = locations(layout, n);
        let y = genes(&locations);
        let kernels = LENGTHSCALES.map(|l| Kernel::squared_exponential(l).expect("a lengthscale"));
        let request = Request { fit: Fit::Moments, ..Request::test(Approximation::Grid) };
        let models = prepare::models(&kernels, &locations, request).expect("models");
        let models: Vec<_> = models.into_iter().flatten().collect();
        let forms: Vec<KernelForms> = models.iter().map(|m| m.forms(&locations, &deltas)).collect();
        let own = NullForms::new(&forms, &locations, &deltas).expect("forms");
        let block = Block::new(y.clone(), &locations, vec![true; y.ncols()], &deltas);
        let views: Vec<_> = models.iter().map(|model| model.view(&block).expect("a view")).collect();

        let dense: Vec<Mat<f64>> = kernels.iter().map(|&kernel| score(kernel, &locations)).collect();
        let exact: Vec<KernelForms> =
            dense.iter().map(|a| dense_forms(std::slice::from_ref(a)).expect("eigenvalues")).collect();
        let exact = NullForms::new(&exact, &locations, &deltas).expect("forms");
        let products: Vec<Mat<f64>> = dense.iter().map(|a| a * &y).collect();

        for (kind, name) in KINDS.iter().enumerate() {
            let mut log_p = Vec::new();
            let mut largest = 0.0_f64;
            for g in kind * EACH..(kind + 1) * EACH {
                let mut q = [0.0; LENGTHSCALES.len()];
                for (view, q) in views.iter().zip(&mut q) {
                    view.forms(g, std::slice::from_mut(q));
                }
                let column = y.col_as_slice(g);
                let p = own.p_value(&q, &own.gene(column)).log10_pval;
                let q: Vec<f64> =
                    products.iter().map(|product| y.col(g).transpose() * product.col(g)).collect();
                let expected = exact.p_value(&q, &exact.gene(column)).log10_pval;
                if expected < -1.0 {
                    largest = largest.max((p / expected - 1.0).abs());
                }
                log_p.push(-expected);
            }
            log_p.sort_by(f64::total_cmp);
            println!("{layout},{n},{name},{EACH},{:.2},{largest:.1e}", log_p[EACH / 2]);
        }
    }
}
