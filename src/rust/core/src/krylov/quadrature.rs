//! Quadratures of `xᵀ f(K) x` from the tridiagonal matrix of Lanczos' method started at x.

use serde::{Deserialize, Serialize};

/// The most QL sweeps for one eigenvalue; two or three are usual, and thirty are EISPACK's limit.
const SWEEPS: usize = 60;

/// A quadrature: nodes and weights.
pub type Quadrature = Vec<(f64, f64)>;

/// A symmetric tridiagonal matrix, and the entry that would come next to its diagonal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tridiagonal {
    pub diagonal: Vec<f64>,
    pub off: Vec<f64>,
}

impl Tridiagonal {
    /// Whether the space that the starting vector spans is complete.
    pub fn exhausted(&self) -> bool {
        self.off.last() == Some(&0.0)
    }

    /// The matrix after one step.
    pub fn first(&self) -> Self {
        Self { diagonal: vec![self.diagonal[0]], off: vec![self.off[0]] }
    }

    /// Gauss quadrature, for a starting vector of length 1. `None` where the eigenvalues do not converge.
    pub fn gauss(&self) -> Option<Quadrature> {
        quadrature(self.diagonal.clone(), self.off[..self.off.len() - 1].to_vec())
    }

    /// Gauss-Radau quadrature with a node at 0. `None` where the eigenvalues do not converge.
    pub fn radau(&self) -> Option<Quadrature> {
        if self.exhausted() {
            return self.gauss();
        }
        // The last entry of T⁻¹ e, by elimination from the top, makes T's extension singular.
        let mut pivot = self.diagonal[0];
        for k in 1..self.diagonal.len() {
            pivot = self.diagonal[k] - self.off[k - 1] * self.off[k - 1] / pivot;
        }
        let last = self.off[self.off.len() - 1];
        let mut diagonal = self.diagonal.clone();
        diagonal.push(last * last / pivot);
        let mut nodes = quadrature(diagonal, self.off.clone())?;
        // One node is 0 but for rounding.
        nodes.iter_mut().for_each(|(node, _)| *node = node.max(0.0));
        Some(nodes)
    }

    /// `(T + delta)⁻¹ e₁`.
    pub fn solve_first(&self, delta: f64) -> Vec<f64> {
        let k = self.diagonal.len();
        // Elimination from the bottom.
        let mut pivots = vec![0.0; k];
        pivots[k - 1] = self.diagonal[k - 1] + delta;
        for i in (0..k - 1).rev() {
            pivots[i] = self.diagonal[i] + delta - self.off[i] * self.off[i] / pivots[i + 1];
        }
        let mut solution = vec![1.0 / pivots[0]];
        for i in 1..k {
            solution.push(-self.off[i - 1] * solution[i - 1] / pivots[i]);
        }
        solution
    }
}

/// `Σ w / (node + delta)`.
pub fn inverse(nodes: &[(f64, f64)], delta: f64) -> f64 {
    nodes.iter().map(|(node, weight)| weight / (node + delta)).sum()
}

/// With all weights times a factor.
pub fn scaled(mut nodes: Quadrature, by: f64) -> Quadrature {
    nodes.iter_mut().for_each(|(_, weight)| *weight *= by);
    nodes
}

/// Eigenvalues of a symmetric tridiagonal matrix with the squares of its eigenvectors' first entries, by the implicit
/// QL method (Golub & Welsch 1969). `None` if it does not converge.
fn quadrature(mut d: Vec<f64>, mut e: Vec<f64>) -> Option<Quadrature> {
    let n = d.len();
    e.push(0.0);
    let mut z = vec![0.0; n];
    z[0] = 1.0;
    for l in 0..n {
        let mut sweeps = 0;
        loop {
            let m = (l..n - 1)
                .find(|&m| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs()))
                .unwrap_or(n - 1);
            if m == l {
                break;
            }
            if sweeps == SWEEPS {
                return None;
            }
            sweeps += 1;
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                let f = z[i + 1];
                z[i + 1] = s * z[i] + c * f;
                z[i] = c * z[i] - s * f;
            }
            d[l] -= p;
            e[l] = g;
            e[m] = 0.0;
        }
    }
    Some(d.into_iter().zip(z.into_iter().map(|z| z * z)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_weights_are_those_of_legendre_polynomials() {
        // On [-1, 1] with weight 1/2: off-diagonals k / sqrt(4 k² - 1); three nodes are at 0 and ±sqrt(3/5).
        let off = |k: f64| k / (4.0 * k * k - 1.0).sqrt();
        let mut nodes = quadrature(vec![0.0; 3], vec![off(1.0), off(2.0)]).unwrap();
        nodes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let expected = [(-0.6_f64.sqrt(), 5.0 / 18.0), (0.0, 8.0 / 18.0), (0.6_f64.sqrt(), 5.0 / 18.0)];
        for ((node, weight), (x, w)) in nodes.into_iter().zip(expected) {
            assert!((node - x).abs() < 1e-14 && (weight - w).abs() < 1e-14, "{node} {weight}");
        }
    }

    #[test]
    fn sweeps_that_do_not_converge_are_told() {
        assert_eq!(quadrature(vec![1.0, 2.0, 3.0], vec![0.5, f64::NAN]), None);
        let lanczos = Tridiagonal { diagonal: vec![1.0, f64::NAN], off: vec![0.5, 0.1] };
        assert!(lanczos.gauss().is_none() && lanczos.radau().is_none());
    }
}
