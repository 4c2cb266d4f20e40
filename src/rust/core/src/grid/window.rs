//! The window that spreads a point over the cells of a mesh, and its Fourier transform.
//!
//! `exp(beta (sqrt(1 - z²) - 1))`, z from -1 to 1 over `width` cells (Barnett, Magland, af Klinteberg 2019, "A parallel
//! nonuniform fast Fourier transform library based on an exponential of semicircle kernel", SIAM J. Sci. Comput. 41).
//! It is evaluated by a polynomial for each of the cells that a point reaches.

use std::f64::consts::PI;

/// Most cells that a window covers in a dimension.
pub const MAX_WIDTH: usize = 16;

/// Steps of a table of offsets.
pub const OFFSETS: usize = 1024;

/// A window of some width.
#[derive(Debug, Clone)]
pub struct Window {
    width: usize,
    beta: f64,
    /// Coefficients of each power of the offset, the highest first; cells of a power are side by side.
    powers: Vec<[f64; MAX_WIDTH]>,
}

impl Window {
    /// A window over `width` cells (at most [`MAX_WIDTH`]). Where the highest frequency that counts is half of the mesh's
    /// own, errors are about 10^(1 - width).
    pub fn new(width: usize) -> Self {
        assert!((2..=MAX_WIDTH).contains(&width), "the width of a window must be 2 to {MAX_WIDTH}");
        let mut window = Self { width, beta: 2.3 * width as f64, powers: Vec::new() };
        let degree = width + 4;
        // Chebyshev's nodes in the offset from -1/2 to 1/2, and the polynomial through them.
        let nodes: Vec<f64> =
            (0..=degree).map(|k| 0.5 * (PI * (k as f64 + 0.5) / (degree + 1) as f64).cos()).collect();
        let mut powers = vec![[0.0; MAX_WIDTH]; degree + 1];
        for cell in 0..width {
            let values: Vec<f64> = nodes.iter().map(|x| window.at(window.distance(cell, x + 0.5))).collect();
            for (power, coefficient) in powers.iter_mut().rev().zip(interpolate(&nodes, &values)) {
                power[cell] = coefficient;
            }
        }
        window.powers = powers;
        window
    }

    /// Cells in each dimension.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The distance, in cells, of the window's cell to a point; `offset` (0 to 1) is how far inside the window's edge the
    /// first cell is.
    fn distance(&self, cell: usize, offset: f64) -> f64 {
        cell as f64 + offset - 0.5 * self.width as f64
    }

    /// The window at some distance in cells.
    fn at(&self, distance: f64) -> f64 {
        let z = 2.0 * distance / self.width as f64;
        if z.abs() <= 1.0 { (self.beta * ((1.0 - z * z).sqrt() - 1.0)).exp() } else { 0.0 }
    }

    /// The first cell that a point at `x` (in cells) reaches, and the window's values on `width` cells from there.
    #[inline(always)]
    pub fn values(&self, x: f64) -> (usize, [f64; MAX_WIDTH]) {
        let low = x - 0.5 * self.width as f64;
        let first = low.floor() + 1.0;
        let t = first - low - 0.5;
        let mut values = [0.0; MAX_WIDTH];
        match self.width {
            0..=8 => self.polynomials::<8>(t, &mut values),
            9..=12 => self.polynomials::<12>(t, &mut values),
            _ => self.polynomials::<MAX_WIDTH>(t, &mut values),
        }
        (first as usize, values)
    }

    /// The polynomials of the first cells, at some offset.
    #[inline(always)]
    fn polynomials<const CELLS: usize>(&self, t: f64, values: &mut [f64; MAX_WIDTH]) {
        let mut own = [0.0; CELLS];
        for power in &self.powers {
            for cell in 0..CELLS {
                own[cell] = own[cell] * t + power[cell];
            }
        }
        values[..CELLS].copy_from_slice(&own);
    }

    /// The window's values for offsets from 0 to 1, in equal steps, in single precision: between two of them they are linear to
    /// 2e-7. Only for as many cells as `W`.
    pub fn tabulated<const W: usize>(&self) -> Vec<[f32; W]> {
        let row = |k: usize| {
            let offset = k as f64 / OFFSETS as f64;
            std::array::from_fn(|cell| self.at(self.distance(cell, offset)) as f32)
        };
        (0..=OFFSETS).map(row).collect()
    }

    /// The Fourier transform at frequencies k / n cycles per cell, k = 0 to n / 2.
    pub fn transform(&self, n: usize) -> Vec<f64> {
        let (nodes, weights) = gauss_legendre(2 * self.width + 24);
        let half = 0.5 * self.width as f64;
        let values: Vec<f64> =
            nodes.iter().zip(&weights).map(|(z, w)| w * half * self.at(z * half)).collect();
        (0..=n / 2)
            .map(|k| {
                let rate = 2.0 * PI * k as f64 / n as f64;
                nodes.iter().zip(&values).map(|(z, v)| v * (rate * z * half).cos()).sum()
            })
            .collect()
    }
}

/// Coefficients (constant first) of the polynomial through some points, by Newton's divided differences.
fn interpolate(nodes: &[f64], values: &[f64]) -> Vec<f64> {
    let n = nodes.len();
    let mut divided = values.to_vec();
    for level in 1..n {
        for i in (level..n).rev() {
            divided[i] = (divided[i] - divided[i - 1]) / (nodes[i] - nodes[i - level]);
        }
    }
    let mut coefficients = vec![0.0; n];
    for i in (0..n).rev() {
        // Times (x - node), plus the next difference.
        for k in (1..n).rev() {
            coefficients[k] = coefficients[k - 1] - nodes[i] * coefficients[k];
        }
        coefficients[0] = divided[i] - nodes[i] * coefficients[0];
    }
    coefficients
}

/// Nodes and weights of Gauss-Legendre quadrature on -1 to 1.
fn gauss_legendre(n: usize) -> (Vec<f64>, Vec<f64>) {
    (0..n)
        .map(|i| {
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..100 {
                let (mut before, mut here) = (1.0, x);
                for k in 2..=n {
                    let k = k as f64;
                    (before, here) = (here, ((2.0 * k - 1.0) * x * here - (k - 1.0) * before) / k);
                }
                slope = n as f64 * (x * here - before) / (x * x - 1.0);
                let step = here / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_the_window() {
        for width in [4, 6, 8, 12] {
            let window = Window::new(width);
            // About what the window has at its edge, where its slope is infinite.
            let tolerance = 2.0 * 10f64.powi(-(width as i32));
            for i in 0..200 {
                let x = 20.0 + i as f64 * 0.0517;
                let (first, values) = window.values(x);
                let reached: Vec<usize> =
                    (0..60).filter(|&cell| (cell as f64 - x).abs() < 0.5 * width as f64).collect();
                assert!(reached.iter().all(|cell| (first..first + width).contains(cell)), "{x}");
                for (k, value) in values[..width].iter().enumerate() {
                    let expected = window.at((first + k) as f64 - x);
                    assert!((value - expected).abs() < tolerance, "{width} {x} {k}: {value} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_transform_is_that_of_the_sum_over_cells() {
        // A wave at the points' places is the wave of the cells divided by the window's transform.
        let window = Window::new(12);
        let n = 64;
        let transform = window.transform(n);
        for (k, transform) in transform.iter().enumerate().take(n / 4 + 1) {
            for x in [20.0, 20.3, 20.77] {
                let (first, values) = window.values(x);
                let rate = 2.0 * PI * k as f64 / n as f64;
                let sum: f64 = (0..12).map(|c| values[c] * (rate * ((first + c) as f64 - x)).cos()).sum();
                assert!((sum / transform - 1.0).abs() < 1e-10, "{k} {x} {sum} {transform}");
            }
        }
    }
}
