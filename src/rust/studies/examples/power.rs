//! Which quadratic forms find spatial patterns? The power of several designs on simulated tissues.
//!
//!     cargo run --release -p patina-studies --example power -- [spots] [replicates] [seed]
//!
//! Tissue: hexagonal spots, each moved a little. Counts: negative binomial, depth varying from spot to spot without
//! spatial structure, prepared as SpatialDE does (stabilised, log depth regressed out). Patterns: draws of Gaussian
//! processes from half a spacing to sixteen, gradients, hotspots, stripes, rings, each at three strengths, by the
//! genes' total count. Prints a table (bench/results/power.csv has 260 and 1,000 spots): for each design the share of
//! genes with p <= 1e-3, its mean over everything, the largest loss against the best design for one pattern, and the
//! level: the same share, divided by 1e-3, for genes without pattern; then the power by total and by pattern.

#[path = "../../core/tests/common/mod.rs"]
mod common;
mod tissues;

use common::{Random, Tester, default_kernels};
use faer::Mat;
use patina_core::{Locations, null};
use rayon::prelude::*;
use tissues::{PATTERNS, gene, shape, tissue};

const TOTALS: [f64; 4] = [10.0, 30.0, 100.0, 1000.0];
const STRENGTHS: [f64; 3] = [5.0, 7.0, 10.0];
const LEVEL: f64 = 1e-3;
const DELTAS: [f64; 5] = [f64::INFINITY, 10.0, 3.0, 1.0, 0.1];

/// A design: which kernels (the shortest ones) and deltas (by index into [`DELTAS`]), and whether they have the
/// package's weights or equal ones.
struct Design {
    name: &'static str,
    kernels: usize,
    deltas: &'static [usize],
    weighted: bool,
}

const DESIGNS: [Design; 11] = [
    Design { name: "10 x {inf, 3}", kernels: 10, deltas: &[0, 2], weighted: true },
    Design { name: "10 x {inf, 10, 1}", kernels: 10, deltas: &[0, 1, 3], weighted: true },
    Design { name: "10 x {inf}", kernels: 10, deltas: &[0], weighted: true },
    Design { name: "10 x {10, 1}", kernels: 10, deltas: &[1, 3], weighted: true },
    Design { name: "10 x {inf, 3}, equal weights", kernels: 10, deltas: &[0, 2], weighted: false },
    Design { name: "10 x {inf, 10, 1}, equal weights", kernels: 10, deltas: &[0, 1, 3], weighted: false },
    Design {
        name: "10 x {inf, 10, 1, .1}, equal weights",
        kernels: 10,
        deltas: &[0, 1, 3, 4],
        weighted: false,
    },
    Design { name: "10 x {inf}, equal weights", kernels: 10, deltas: &[0], weighted: false },
    Design { name: "8 x {inf, 3}, equal weights", kernels: 8, deltas: &[0, 2], weighted: false },
    Design { name: "8 x {inf, 10, 1}, equal weights", kernels: 8, deltas: &[0, 1, 3], weighted: false },
    Design { name: "6 x {inf, 3}, equal weights", kernels: 6, deltas: &[0, 2], weighted: false },
];

fn main() {
    let number = |k: usize, default: u64| {
        std::env::args().nth(k).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (n, replicates) = (number(1, 260) as usize, number(2, 20) as usize);
    let seed = number(3, 1);
    let coords = tissue(n, &mut Random::new(seed));
    let locations = Locations::new(coords.as_ref()).expect("locations");
    let tester = Tester::new(&default_kernels(&locations), &locations, &DELTAS);
    let weights: Vec<Vec<f64>> =
        DESIGNS.iter().map(|design| design.weights(tester.forms.weights())).collect();

    // Power by pattern and total, of each design; the last pattern is none.
    let mut power = vec![vec![[0.0; TOTALS.len()]; DESIGNS.len()]; PATTERNS.len() + 1];
    for (pattern, power) in power.iter_mut().enumerate() {
        for (t, &total) in TOTALS.iter().enumerate() {
            let copies = replicates * STRENGTHS.len() * if pattern == PATTERNS.len() { 10 } else { 1 };
            let columns: Vec<Vec<f64>> = (0..copies)
                .into_par_iter()
                .map(|copy| {
                    let id = ((pattern * TOTALS.len() + t) * 100_000 + copy) as u64;
                    let mut random = Random::new(seed ^ id.wrapping_mul(0x2545_f491_4f6c_dd1d));
                    let shape = shape(pattern, &coords, &mut random);
                    gene(&shape, total, STRENGTHS[copy % STRENGTHS.len()], &mut random)
                })
                .collect();
            let y = Mat::from_fn(n, copies, |i, g| columns[g][i]);
            let found = tester.map_genes(&y, |_, q, gene| {
                let log_p = tester.forms.log_p_values(q, gene);
                weights.iter().map(|w| null::combine(&log_p, w) <= LEVEL.ln()).collect::<Vec<bool>>()
            });
            for (d, cells) in power.iter_mut().enumerate() {
                cells[t] = found.iter().filter(|found| found[d]).count() as f64 / copies as f64;
            }
        }
    }

    let columns = TOTALS.iter().map(|total| format!("total_{total}"));
    let columns = columns.chain(PATTERNS.iter().map(|pattern| pattern.replace(' ', "_")));
    println!("spots,design,mean,loss,level,{}", columns.collect::<Vec<_>>().join(","));
    let cells = |p: usize, d: usize| power[p][d];
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    for (d, design) in DESIGNS.iter().enumerate() {
        let all: Vec<f64> = (0..PATTERNS.len()).flat_map(|p| cells(p, d)).collect();
        let pattern_mean = |p: usize, d: usize| mean(&cells(p, d));
        let best = |p: usize| (0..DESIGNS.len()).map(|d| pattern_mean(p, d)).fold(0.0, f64::max);
        let loss = (0..PATTERNS.len()).map(|p| best(p) - pattern_mean(p, d)).fold(0.0, f64::max);
        let size = mean(&cells(PATTERNS.len(), d)) / LEVEL;
        let by_total = |t: usize| mean(&(0..PATTERNS.len()).map(|p| cells(p, d)[t]).collect::<Vec<_>>());
        let rest = (0..TOTALS.len()).map(by_total).chain((0..PATTERNS.len()).map(|p| pattern_mean(p, d)));
        let values = [mean(&all), loss, size].into_iter().chain(rest).map(|value| format!("{value:.3}"));
        println!("{n},\"{}\",{}", design.name, values.collect::<Vec<_>>().join(","));
    }
}

impl Design {
    /// Weights of all forms, kernel by kernel: zero for those that the design leaves out.
    fn weights(&self, own: &[f64]) -> Vec<f64> {
        let chosen = |f: usize| f / DELTAS.len() < self.kernels && self.deltas.contains(&(f % DELTAS.len()));
        let weight = |f: usize| match (chosen(f), self.weighted) {
            (false, _) => 0.0,
            (true, true) => own[f],
            (true, false) => 1.0,
        };
        (0..own.len()).map(weight).collect()
    }
}
