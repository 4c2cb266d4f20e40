//! Which quadratic forms find spatial patterns? The power of several designs on simulated tissues.
//!
//!     cargo run --release -p patina-core --example power -- [spots] [replicates] [seed]
//!
//! Tissue: hexagonal spots, each moved a little. Counts: negative binomial, depth varying from spot to spot without
//! spatial structure, prepared as SpatialDE does (stabilised, log depth regressed out). Patterns: draws of Gaussian
//! processes from half a spacing to sixteen, gradients, hotspots, stripes, rings, each at three strengths, by the
//! genes' total count. Prints a table (bench/results/power.csv has 260 and 1,000 spots): for each design the share of
//! genes with p <= 1e-3, its mean over everything, the largest loss against the best design for one pattern, and the
//! level: the same share, divided by 1e-3, for genes without pattern; then the power by total and by pattern.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Random, Tester, default_kernels};
use faer::Mat;
use patina_core::{Locations, null};
use rayon::prelude::*;

const TOTALS: [f64; 4] = [10.0, 30.0, 100.0, 1000.0];
const STRENGTHS: [f64; 3] = [5.0, 7.0, 10.0];
const DISPERSION: f64 = 0.3;
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

const PATTERNS: [&str; 14] = [
    "GP 0.5",
    "GP 1",
    "GP 2",
    "GP 4",
    "GP 8",
    "GP 16",
    "gradient",
    "diagonal",
    "hotspot",
    "wide hotspot",
    "two hotspots",
    "stripes",
    "wide stripes",
    "ring",
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

/// A roughly square tissue of n spots: hexagonal with spacing 1, each spot moved by a tenth of it.
fn tissue(n: usize, random: &mut Random) -> Mat<f64> {
    let width = (n as f64 * 0.866).sqrt().round() as usize;
    Mat::from_fn(n, 2, |i, k| {
        let (row, column) = (i / width, i % width);
        let at = if k == 0 { column as f64 + 0.5 * (row % 2) as f64 } else { row as f64 * 0.866 };
        at + 0.1 * random.normal()
    })
}

/// A pattern with mean 0 and variance 1 over the spots; zeros for none.
fn shape(pattern: usize, coords: &Mat<f64>, random: &mut Random) -> Vec<f64> {
    let n = coords.nrows();
    let largest = |k: usize| coords.col(k).iter().fold(0.0_f64, |a, b| a.max(*b));
    let extent = [largest(0), largest(1)];
    let at = |i: usize| (coords[(i, 0)] / extent[0], coords[(i, 1)] / extent[1]);
    let centre = [0.2 + 0.6 * random.uniform(), 0.2 + 0.6 * random.uniform()];
    let other = [0.2 + 0.6 * random.uniform(), 0.2 + 0.6 * random.uniform()];
    let phase = 2.0 * std::f64::consts::PI * random.uniform();
    let spot = |i: usize, c: [f64; 2], width: f64| {
        let (x, y) = at(i);
        (-((x - c[0]).powi(2) + (y - c[1]).powi(2)) / (2.0 * width * width)).exp()
    };
    let stripes =
        |i: usize, count: f64| (2.0 * std::f64::consts::PI * count * at(i).0 + phase).sin().signum();
    let mut values: Vec<f64> = match pattern {
        0..=5 => gaussian_process(coords, 0.5 * 2f64.powi(pattern as i32), random),
        6 => (0..n).map(|i| at(i).0).collect(),
        7 => (0..n).map(|i| at(i).0 + at(i).1).collect(),
        8 => (0..n).map(|i| spot(i, centre, 0.08)).collect(),
        9 => (0..n).map(|i| spot(i, centre, 0.2)).collect(),
        10 => (0..n).map(|i| spot(i, centre, 0.1) + spot(i, other, 0.1)).collect(),
        11 => (0..n).map(|i| stripes(i, 5.0)).collect(),
        12 => (0..n).map(|i| stripes(i, 2.0)).collect(),
        13 => (0..n)
            .map(|i| {
                let radius = ((at(i).0 - 0.5).powi(2) + (at(i).1 - 0.5).powi(2)).sqrt();
                (-(radius - 0.3).powi(2) / (2.0 * 0.06 * 0.06)).exp()
            })
            .collect(),
        _ => return vec![0.0; n],
    };
    let mean = values.iter().sum::<f64>() / n as f64;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    values.iter_mut().for_each(|v| *v = (*v - mean) / sd);
    values
}

/// A draw of an SE process, by random Fourier features.
fn gaussian_process(coords: &Mat<f64>, lengthscale: f64, random: &mut Random) -> Vec<f64> {
    let mut values = vec![0.0; coords.nrows()];
    for _ in 0..300 {
        let (wx, wy) = (random.normal() / lengthscale, random.normal() / lengthscale);
        let phase = 2.0 * std::f64::consts::PI * random.uniform();
        for (i, value) in values.iter_mut().enumerate() {
            *value += (wx * coords[(i, 0)] + wy * coords[(i, 1)] + phase).cos();
        }
    }
    values
}

/// One gene's prepared and centred values. Its log mean is the pattern, whose standard deviation is `strength`
/// over the root of the gene's information, capped at 2.
fn gene(shape: &[f64], total: f64, strength: f64, random: &mut Random) -> Vec<f64> {
    let n = shape.len() as f64;
    let mean = total / n;
    let amplitude = (strength / (n * mean / (1.0 + DISPERSION * mean)).sqrt()).min(2.0);
    let raw: Vec<f64> = shape.iter().map(|s| (amplitude * s).exp()).collect();
    let level = mean * n / raw.iter().sum::<f64>();
    let depth: Vec<f64> = shape.iter().map(|_| (0.3 * random.normal() - 0.045).exp()).collect();
    loop {
        let counts: Vec<f64> =
            raw.iter().zip(&depth).map(|(r, d)| negative_binomial(level * r * d, random)).collect();
        // As in the data, genes with fewer than three counts are not tested.
        if counts.iter().sum::<f64>() < 3.0 {
            continue;
        }
        let log_depth: Vec<f64> = depth.iter().map(|d| d.ln()).collect();
        let mut y: Vec<f64> = counts.iter().map(|x| (x + 0.5 / DISPERSION).ln()).collect();
        let centre = |v: &mut [f64]| {
            let mean = v.iter().sum::<f64>() / n;
            v.iter_mut().for_each(|v| *v -= mean);
        };
        let mut x = log_depth;
        centre(&mut x);
        centre(&mut y);
        let slope = x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>() / x.iter().map(|x| x * x).sum::<f64>();
        y.iter_mut().zip(&x).for_each(|(y, x)| *y -= slope * x);
        return y;
    }
}

/// A negative binomial count with this mean: Poisson with a gamma mean.
fn negative_binomial(mean: f64, random: &mut Random) -> f64 {
    poisson(mean * DISPERSION * gamma(1.0 / DISPERSION, random), random)
}

/// A gamma variable of this shape, at least 1 (Marsaglia & Tsang 2000).
fn gamma(shape: f64, random: &mut Random) -> f64 {
    let d = shape - 1.0 / 3.0;
    loop {
        let x = random.normal();
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && random.uniform().ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}

/// A Poisson count, by multiplying uniforms in steps that do not underflow.
fn poisson(mean: f64, random: &mut Random) -> f64 {
    let (mut left, mut count) = (mean, 0.0);
    while left > 0.0 {
        let step = left.min(200.0);
        left -= step;
        let (bound, mut product) = ((-step).exp(), random.uniform());
        while product > bound {
            count += 1.0;
            product *= random.uniform();
        }
    }
    count
}
