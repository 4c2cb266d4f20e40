//! Locations and expression for tests.

use crate::kernel::Kernel;
use crate::locations::Locations;
use crate::random::SplitMix64;
use faer::Mat;

/// A reproducible sequence of uniform numbers in [0, 1).
pub fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut random =
        SplitMix64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x5851_F42D_4C95_7F2D), &[]);
    move || random.uniform()
}

/// Approximately normal numbers.
pub fn normal(seed: u64) -> impl FnMut() -> f64 {
    let mut uniform = uniform(seed);
    move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// The squared exponential kernel of a lengthscale.
pub fn se(lengthscale: f64) -> Kernel {
    Kernel::squared_exponential(lengthscale).unwrap()
}

/// The cosine kernel of a period.
pub fn cosine(period: f64) -> Kernel {
    Kernel::cosine(period).unwrap()
}
/// Uniform points with density 1, in a square or cube.
pub fn scattered(n: usize, dim: usize, seed: u64) -> Locations {
    let mut uniform = uniform(seed);
    let side = (n as f64).powf(1.0 / dim as f64);
    let x = Mat::from_fn(n, dim, |_, _| side * uniform());
    Locations::new(x.as_ref()).unwrap()
}

/// The same, one in eight of them on top of another.
pub fn irregular(n: usize, dim: usize, seed: u64) -> Locations {
    let mut x = scattered(n, dim, seed).coords().to_owned();
    for i in (8..n).step_by(8) {
        for k in 0..dim {
            x[(i, k)] = x[(i / 2, k)];
        }
    }
    Locations::new(x.as_ref()).unwrap()
}

/// A square lattice of spacing 1 with a round hole.
pub fn grid_with_gaps(side: usize) -> Locations {
    let middle = side as f64 / 2.0;
    let points: Vec<[f64; 2]> = (0..side * side)
        .map(|i| [(i % side) as f64, (i / side) as f64])
        .filter(|p| (p[0] - middle).powi(2) + (p[1] - middle).powi(2) > middle)
        .collect();
    let x = Mat::from_fn(points.len(), 2, |i, k| points[i][k]);
    Locations::new(x.as_ref()).unwrap()
}

/// Two samples of irregular points, in two dimensions.
pub fn two_samples(n: usize) -> Locations {
    let (a, b) = (scattered(n, 2, 1), scattered(n / 2, 2, 2));
    let x =
        Mat::from_fn(n + n / 2, 2, |i, k| if i < n { a.coords()[(i, k)] } else { b.coords()[(i - n, k)] });
    Locations::with_samples(x.as_ref(), &[n, n / 2]).unwrap()
}

/// Asserts a relative error below a tolerance.
pub fn close(got: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (got - expected).abs() / expected.abs().max(1e-300);
    assert!(error < tolerance, "{what}: {got} {expected} ({error:e})");
}
