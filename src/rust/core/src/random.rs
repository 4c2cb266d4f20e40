//! Reproducible random numbers: the generator of Steele, Lea, Flood 2014 (doi:10.1145/2714064.2660195), enough for a
//! few million draws. The only generator of the crate, of its tests and of its examples.

/// What the state grows by at each draw.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A stream for a seed and the place where it is used.
    pub fn new(seed: u64, place: &[u64]) -> Self {
        let mut random = Self(seed);
        for &p in place {
            random.0 = random.next_u64() ^ p;
        }
        random
    }

    /// Uniform over all 64-bit integers.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }

    /// Standard normal (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * angle).cos()
    }
}

/// A random sign that depends on nothing but the seed.
pub fn sign(seed: u64) -> f64 {
    if SplitMix64(seed.wrapping_mul(GAMMA)).next_u64() & 1 == 0 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_published_generator() {
        // The first outputs for seed 1234567 of the authors' own program.
        let mut random = SplitMix64::new(1_234_567, &[]);
        let expected = [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973];
        assert_eq!([random.next_u64(), random.next_u64()], expected);
    }

    #[test]
    fn numbers_have_the_moments_of_their_distributions() {
        let mut random = SplitMix64::new(7, &[1, 2]);
        let n = 100_000;
        let (mut mean, mut square, mut signs) = (0.0, 0.0, 0.0);
        for i in 0..n {
            let x = random.normal();
            mean += x / f64::from(n);
            square += x * x / f64::from(n);
            signs += sign(i as u64) / f64::from(n);
        }
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.03 && signs.abs() < 0.02);
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
