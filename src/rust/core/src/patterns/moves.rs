//! Moves of single genes between the patterns of a hard partition.

use crate::interrupt;
use faer::Mat;

/// Rounds of moves over all genes, at most, between two ascents.
const MAX_SWEEPS: usize = 100;

/// The least gain of a move: rounding must not send a gene back and forth.
const LEAST_GAIN: f64 = 1e-7;

/// Moves single genes between the patterns of a hard partition for as long as the bound rises, with q(mu) and
/// pi maximised out and s2 fixed; says whether any gene moved. A gene is compared with patterns that it is no part of.
pub fn move_genes(z: &Mat<f64>, values: &[f64], partition: &mut [usize], c: usize, s2: f64) -> bool {
    let mut groups: Vec<Group> = (0..c).map(|_| Group::empty(values.len())).collect();
    for (g, &k) in partition.iter().enumerate() {
        groups[k].add(z.col_as_slice(g), 1.0);
    }
    groups.iter_mut().for_each(|group| group.update(values, s2));
    let mut any = false;
    for _ in 0..MAX_SWEEPS {
        let mut moved = false;
        for (g, home) in partition.iter_mut().enumerate() {
            let z = z.col_as_slice(g);
            let leave = groups[*home].gain(z, -1.0);
            let mut best = (*home, 0.0);
            for (k, group) in groups.iter().enumerate() {
                if k == *home {
                    continue;
                }
                let gain = leave + group.gain(z, 1.0);
                if gain > best.1 {
                    best = (k, gain);
                }
            }
            if best.1 > LEAST_GAIN {
                for (k, sign) in [(*home, -1.0), (best.0, 1.0)] {
                    groups[k].add(z, sign);
                    groups[k].update(values, s2);
                }
                *home = best.0;
                moved = true;
            }
        }
        any |= moved;
        if !moved || interrupt::requested() {
            break;
        }
    }
    any
}

/// The genes of one pattern in a hard partition, and what the bound gains by one more or one less.
///
/// With q(mu) and pi maximised out, a pattern of R genes with sum t adds
/// `F(R, t) = ½ Σ_i [S t² / (s2 (s2 + R S)) - log(1 + R S / s2)] + R log R` to the bound.
pub struct Group {
    size: f64,
    sum: Vec<f64>,
    /// F at the present size and sum.
    pub value: f64,
    /// The same with one gene less, and with one more: weights of t², and what does not depend on t.
    less: (Vec<f64>, f64),
    more: (Vec<f64>, f64),
}

impl Group {
    pub fn empty(rank: usize) -> Self {
        let weights = || (vec![0.0; rank], 0.0);
        Self { size: 0.0, sum: vec![0.0; rank], value: 0.0, less: weights(), more: weights() }
    }

    pub fn add(&mut self, z: &[f64], sign: f64) {
        self.size += sign;
        self.sum.iter_mut().zip(z).for_each(|(t, z)| *t += sign * z);
    }

    pub fn update(&mut self, values: &[f64], s2: f64) {
        let constant = |size: f64, weights: &mut [f64]| {
            let mut log_det = 0.0;
            for (w, &s) in weights.iter_mut().zip(values) {
                *w = s / (s2 * (s2 + size * s));
                log_det += (size * s / s2).ln_1p();
            }
            let entropy = if size > 0.0 { size * size.ln() } else { 0.0 };
            entropy - 0.5 * log_det
        };
        // `less` serves as scratch space before it gets its own values.
        let here = constant(self.size, &mut self.less.0);
        self.value = here + 0.5 * weighted_norm(&self.less.0, &self.sum, &self.sum, 0.0);
        if self.size > 0.0 {
            self.less.1 = constant(self.size - 1.0, &mut self.less.0);
        }
        self.more.1 = constant(self.size + 1.0, &mut self.more.0);
    }

    /// The bound's change when a gene joins (sign 1) or leaves (sign -1).
    pub fn gain(&self, z: &[f64], sign: f64) -> f64 {
        let (weights, constant) = if sign > 0.0 { &self.more } else { &self.less };
        constant + 0.5 * weighted_norm(weights, &self.sum, z, sign) - self.value
    }
}

/// Σ w (t + a z)², in eight interleaved sums, so that it vectorises and the order is fixed.
fn weighted_norm(w: &[f64], t: &[f64], z: &[f64], a: f64) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let whole = w.len() / LANES * LANES;
    let lanes = w[..whole].chunks_exact(LANES).zip(t[..whole].chunks_exact(LANES));
    for ((w, t), z) in lanes.zip(z[..whole].chunks_exact(LANES)) {
        for i in 0..LANES {
            let x = t[i] + a * z[i];
            sums[i] += w[i] * x * x;
        }
    }
    for i in whole..w.len() {
        let x = t[i] + a * z[i];
        sums[0] += w[i] * x * x;
    }
    sums.iter().sum()
}
