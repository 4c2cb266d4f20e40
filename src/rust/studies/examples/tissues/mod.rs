//! Simulated tissues: spots, patterns, and counts as they are prepared for the test.
#![allow(dead_code)]

use super::common::Random;
use faer::Mat;

const DISPERSION: f64 = 0.3;

/// Patterns that change over more than a spacing or so.
pub const PATTERNS: [&str; 14] = [
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

/// A roughly square tissue of n spots: hexagonal with spacing 1, each spot moved by a tenth of it.
pub fn tissue(n: usize, random: &mut Random) -> Mat<f64> {
    let width = (n as f64 * 0.866).sqrt().round() as usize;
    Mat::from_fn(n, 2, |i, k| {
        let (row, column) = (i / width, i % width);
        let at = if k == 0 { column as f64 + 0.5 * (row % 2) as f64 } else { row as f64 * 0.866 };
        at + 0.1 * random.normal()
    })
}

/// A pattern with mean 0 and variance 1 over the spots; zeros for none.
pub fn shape(pattern: usize, coords: &Mat<f64>, random: &mut Random) -> Vec<f64> {
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
pub fn gaussian_process(coords: &Mat<f64>, lengthscale: f64, random: &mut Random) -> Vec<f64> {
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
pub fn gene(shape: &[f64], total: f64, strength: f64, random: &mut Random) -> Vec<f64> {
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

/// How spots lie; neighbours are about 1 apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layout {
    /// Hexagonal, each spot moved by a tenth of the spacing.
    Hexagonal,
    /// Square, exactly.
    Lattice,
    /// At random, so that the closest pair is far closer than most.
    Scattered,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hexagonal, Self::Lattice, Self::Scattered];

    /// About n spots.
    pub fn coords(self, n: usize, random: &mut Random) -> Mat<f64> {
        match self {
            Self::Hexagonal => tissue(n, random),
            Self::Lattice => {
                let side = (n as f64).sqrt().round() as usize;
                Mat::from_fn(
                    side * side,
                    2,
                    |i, k| if k == 0 { (i % side) as f64 } else { (i / side) as f64 },
                )
            }
            Self::Scattered => {
                // Half the root of the area of a spot is its expected distance to the nearest.
                let side = 2.0 * (n as f64).sqrt();
                Mat::from_fn(n, 2, |_, _| side * random.uniform())
            }
        }
    }
}

/// Patterns that neighbours do not share.
pub const FINE: [&str; 8] = [
    "stripes 2",
    "stripes 2.5",
    "stripes 3",
    "stripes 4",
    "stripes 6",
    "checkerboard",
    "repelling",
    "strongly repelling",
];

/// One of the [`FINE`] patterns, with mean 0 and variance 1 over the spots. Stripes run along the first or the second
/// coordinate, on scattered spots in any direction; a checkerboard has the size of the spacing; repelling neighbours are a
/// Gaussian process in which each spot's mean is the negative of its neighbours'.
pub fn fine_shape(pattern: usize, coords: &Mat<f64>, layout: Layout, random: &mut Random) -> Vec<f64> {
    const PERIODS: [f64; 5] = [2.0, 2.5, 3.0, 4.0, 6.0];
    let n = coords.nrows();
    let mut values: Vec<f64> = if let Some(period) = PERIODS.get(pattern) {
        let angle = std::f64::consts::PI
            * if layout == Layout::Scattered { random.uniform() } else { 0.5 * (random.bits() % 2) as f64 };
        // Rows of a hexagonal tissue are closer than its columns.
        let height = if layout == Layout::Hexagonal { 0.866 } else { 1.0 };
        let phase = random.uniform();
        (0..n)
            .map(|i| {
                let at = (angle.cos() * coords[(i, 0)] + angle.sin() * coords[(i, 1)] / height) / period;
                if (at + 0.25 + 0.1 * phase).rem_euclid(1.0) < 0.5 { 1.0 } else { -1.0 }
            })
            .collect()
    } else if pattern == 5 {
        let height = if layout == Layout::Hexagonal { 0.866 } else { 1.0 };
        let even = |i: usize| {
            let cell = |k: usize, size: f64| (coords[(i, k)] / size + 0.5).floor() as i64;
            (cell(0, 1.0) + cell(1, height)) % 2 == 0
        };
        (0..n).map(|i| if even(i) { 1.0 } else { -1.0 }).collect()
    } else {
        let strength = if pattern == 6 { 0.7 } else { 0.97 };
        let neighbours: Vec<Vec<usize>> = (0..n)
            .map(|i| {
                let near = |j: usize| (0..2).map(|k| (coords[(i, k)] - coords[(j, k)]).powi(2)).sum::<f64>();
                (0..n).filter(|&j| j != i && near(j) < 1.35 * 1.35).collect()
            })
            .collect();
        // Gibbs sampling of x_i ~ N(-strength · mean of its neighbours, 1).
        let mut x: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        for _ in 0..100 {
            for i in 0..n {
                let count = neighbours[i].len();
                let sum: f64 = neighbours[i].iter().map(|&j| x[j]).sum();
                let degree = count.max(1) as f64;
                x[i] = -strength * sum / degree + random.normal() / degree.sqrt();
            }
        }
        x
    };
    standardise(&mut values);
    values
}

/// Mean 0 and variance 1.
fn standardise(values: &mut [f64]) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    values.iter_mut().for_each(|v| *v = (*v - mean) / sd);
}
