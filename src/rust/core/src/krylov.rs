//! The engine of short kernels over many locations: a sparse K and Lanczos quadrature.
//!
//! With H the centring (within samples) of a gene, the projection P of the likelihood is the inverse of
//! H V H on centred vectors, so `yᵀ P y = yᵀ (HKH + delta)⁻¹ y`: no mean has to be estimated. k steps of Lanczos on HKH
//! started at y give a quadrature of it; with a node at 0 (Gauss-Radau) it is never below, without (Gauss) never
//! above the true value. Where both agree a gene has converged; where not, it says so. The log determinant, the same for
//! all genes, comes from probes.

mod genes;
mod lanczos;
mod log_det;
mod prepared;
mod probes;
mod quadrature;
mod sample;
mod sparse;

pub use genes::GeneQuadrature;
pub use prepared::Krylov;

use crate::engine::{GENE_GAP, LOG_DET_GAP, SINGLE_ROUNDING};
use crate::error::Result;
use crate::interrupt;
use crate::kernel::Kernel;
use crate::likelihood::{Candidate, Maximum, candidates, range_above};
use crate::locations::Locations;
use crate::model::{Block, Likelihood, Model, View};
use crate::null::score::ScoreSample;
use crate::null::{KernelForms, SampleForm, score_rows};

impl Model for Krylov {
    fn kernel(&self) -> Kernel {
        self.kernel
    }

    fn engine(&self) -> &'static str {
        "krylov"
    }

    fn rank(&self) -> usize {
        self.n
    }

    fn gower(&self) -> f64 {
        self.gower
    }

    /// What the quadratures may put into a log likelihood ratio, beside a share of 5e-5 of it.
    fn error_bound(&self) -> f64 {
        LOG_DET_GAP + GENE_GAP
    }

    /// What comes of entries in single precision; beside it, a gene that may be off by more than the tolerance has not
    /// converged.
    fn doubt(&self, log_delta: f64) -> f64 {
        0.5 * SINGLE_ROUNDING * self.squares.sqrt() * (-log_delta).exp()
    }

    fn always_converges(&self) -> bool {
        false
    }

    /// The score form only.
    fn forms(&self, locations: &Locations, deltas: &[f64]) -> KernelForms {
        let kernel = self.kernel.at(locations);
        let (mut score, mut rows) = (Vec::new(), Vec::new());
        for (sample, range) in self.samples.iter().zip(locations.samples()) {
            let own = ScoreSample::new(&sample.sums(), |x| sample.times(x), sample.eigenvalues());
            rows.push(own.rows(&kernel, range.start, sample.places(), &score_rows(locations, range.clone())));
            score.push(own.form);
        }
        SampleForm::centre(&mut score);
        let forms = deltas.iter().map(|delta| delta.is_infinite().then(|| score.clone())).collect();
        KernelForms::new(forms, rows)
    }

    fn view<'a>(&'a self, block: &'a Block<'a>) -> Result<Box<dyn View + 'a>> {
        let quadratures = self.quadratures(block.values(), &block.testable);
        interrupt::check()?;
        Ok(Box::new(KrylovView { model: self, block, quadratures }))
    }
}

/// The quadratures of a block of genes.
struct KrylovView<'a> {
    model: &'a Krylov,
    block: &'a Block<'a>,
    /// Of the genes that can be tested.
    quadratures: Vec<Option<GeneQuadrature>>,
}

impl KrylovView<'_> {
    fn quadrature(&self, gene: usize) -> &GeneQuadrature {
        self.quadratures[gene].as_ref().expect("all genes that can be tested have a quadrature")
    }
}

impl View for KrylovView<'_> {
    fn forms(&self, gene: usize, out: &mut [f64]) {
        for (out, delta) in out.iter_mut().zip(self.block.deltas) {
            *out = if delta.is_infinite() { self.quadrature(gene).score } else { 0.0 };
        }
    }

    fn likelihood(&self) -> Option<&dyn Likelihood> {
        Some(self)
    }
}

impl Likelihood for KrylovView<'_> {
    fn scan(&self, gene: usize, found: &mut dyn FnMut(Candidate)) {
        candidates(&self.model.scan(self.quadrature(gene)), self.model.n, found);
    }

    fn refine(&self, gene: usize, candidate: Candidate) -> Maximum {
        self.model.refine(self.quadrature(gene), candidate)
    }

    fn range_above(&self, gene: usize, least: f64) -> Option<(f64, f64)> {
        range_above(&self.model.scan(self.quadrature(gene)), self.model.grid(), self.model.n, least)
    }

    fn mean_and_scale(&self, gene: usize, log_delta: f64) -> (Vec<f64>, f64) {
        self.model.mean_and_scale(self.quadrature(gene), self.block.gene(gene), log_delta)
    }

    fn ceiling(&self, gene: usize) -> f64 {
        self.quadrature(gene).ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Approximation, Choice, Request, Width, choose};
    use crate::fixtures::{grid_with_gaps, irregular, normal, scattered, se, two_samples};
    use crate::likelihood::constant_loglik;
    use crate::spectral::Profile;
    use crate::spectrum::Spectrum;
    use faer::Mat;

    /// Genes centred within samples and scaled: noise, draws from the kernel of lengthscale 2 at several noise ratios.
    fn genes(locations: &Locations, noise: &[f64]) -> Mat<f64> {
        let kernel = se(2.0);
        let spectrum = Spectrum::dense(kernel, locations).unwrap();
        let mut normal = normal(11);
        let n = locations.len();
        let mut y = Mat::zeros(n, noise.len());
        for (g, noise) in noise.iter().enumerate() {
            let mut from = 0;
            for block in spectrum.blocks() {
                let (len, rank) = block.vectors().shape();
                let draws: Vec<f64> =
                    (0..rank).map(|k| spectrum.values()[from + k].sqrt() * normal()).collect();
                for i in 0..len {
                    let field: f64 = if noise.is_finite() {
                        (0..rank).map(|k| block.vectors()[(i, k)] * draws[k]).sum()
                    } else {
                        0.0
                    };
                    y[(block.start() + i, g)] = field + noise.sqrt().min(1.0) * normal();
                }
                from += rank;
            }
            for rows in locations.samples() {
                let mean = rows.clone().map(|i| y[(i, g)]).sum::<f64>() / rows.len() as f64;
                rows.clone().for_each(|i| y[(i, g)] -= mean);
            }
            let scale = (y.col(g).iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
            y.col_mut(g).iter_mut().for_each(|v| *v /= scale);
        }
        y
    }

    fn prepared(kernel: Kernel, locations: &Locations) -> Krylov {
        match choose(&[kernel], locations, Request::test(Approximation::Krylov))[0] {
            Choice::Krylov { width, apart } => Krylov::new(kernel, locations, width, apart).unwrap(),
            ref other => panic!("{other:?}"),
        }
    }

    /// Waves, slopes and products of both, with noise of any size: likelihoods with one, two or no maximum, scaled.
    fn many(locations: &Locations, count: usize) -> Mat<f64> {
        let (n, x) = (locations.len(), locations.coords());
        let (mut uniform, mut normal) = (crate::fixtures::uniform(3), normal(5));
        let side = (n as f64).sqrt();
        let mut y = Mat::<f64>::zeros(n, count);
        for g in 0..count {
            let noise = 10f64.powf(if g % 2 == 0 { 4.0 * uniform() - 4.0 } else { 1.5 * uniform() - 1.0 });
            let (a, b, c) = (30.0 * uniform(), 30.0 * uniform(), uniform() * uniform());
            for i in 0..n {
                let (u, v) = (x[(i, 0)] / side, x[(i, 1)] / side);
                let smooth = match g % 9 {
                    0 => u * u,
                    1 => u,
                    2 => (a * u).sin(),
                    3 => u * v,
                    4 => (0.2 * a * v).cos() + c * (b * u).sin(),
                    5 => u + v * v * v,
                    6 => (a * u).sin() * v,
                    7 => (a * u).sin() * (b * v).cos(),
                    _ => 0.0,
                };
                y[(i, g)] = smooth + noise * normal();
            }
            let mean = y.col(g).iter().sum::<f64>() / n as f64;
            y.col_mut(g).iter_mut().for_each(|v| *v -= mean);
            let scale = (y.col(g).iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
            y.col_mut(g).iter_mut().for_each(|v| *v /= scale);
        }
        y
    }

    #[test]
    fn a_maximum_that_is_known_is_the_largest() {
        let count = 288;
        let matern: fn(f64) -> Kernel = |lengthscale| Kernel::matern32(lengthscale).unwrap();
        // Of the first two a dense decomposition would be taken: among few locations second maxima are more frequent.
        for (n, kernel, spacings, asked_for) in [
            (60, se as fn(f64) -> Kernel, 1.2, false),
            (60, matern, 1.2, false),
            (60, se, 1.1, true),
            (150, se, 2.0, true),
            (400, matern, 1.8, true),
            (400, se, 3.0, true),
        ] {
            let locations = scattered(n, 2, 27);
            let y = many(&locations, count);
            let kernel = kernel(spacings * locations.spacing());
            let krylov = if asked_for {
                prepared(kernel, &locations)
            } else {
                let apart = kernel.reach(-8.0).unwrap() * kernel.scale() + 2.0 * locations.spacing();
                Krylov::new(kernel, &locations, Width::Usual, apart).unwrap()
            };
            let dense = Spectrum::dense(kernel, &locations).unwrap();
            let profile = Profile::new(&dense);
            let mut z = Mat::zeros(dense.rank(), count);
            dense.project(y.as_ref(), z.as_mut());
            let mut known = 0;
            for (g, quadrature) in krylov.quadratures(y.as_ref(), &vec![true; count]).iter().enumerate() {
                let quadrature = quadrature.as_ref().unwrap();
                let exact = profile.gene(z.col_as_slice(g), |_| n as f64);
                let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
                let own = most(&mut krylov.grid().iter().map(|&x| krylov.evaluate(quadrature, x).value));
                if quadrature.ceiling >= own {
                    continue;
                }
                known += 1;
                let truth = most(&mut profile.grid().iter().map(|&x| exact.evaluate(x).value));
                let llr = truth - constant_loglik(n);
                assert!((own - truth).abs() < 0.03 + 1e-4 * llr, "{kernel:?}, gene {g}: {own} {truth}");
            }
            println!("{kernel:?}: {known} of {count} known");
            assert!(known >= count / 3, "{kernel:?}: {known}");
        }
    }

    #[test]
    fn agrees_with_the_dense_spectrum() {
        let noise = [f64::INFINITY, f64::INFINITY, f64::INFINITY, 30.0, 10.0, 3.0, 1.0, 0.3];
        for locations in [
            irregular(900, 2, 1),
            grid_with_gaps(30),
            two_samples(500),
            irregular(400, 1, 2),
            irregular(700, 3, 3),
        ] {
            let lengthscales: &[f64] =
                if locations.dim() == 3 { &[0.05, 0.3, 0.6] } else { &[0.05, 0.5, 0.95, 1.4, 1.8] };
            let y = genes(&locations, &noise);
            let squares = |g: usize, p: usize| -> f64 {
                locations.samples()[p].clone().map(|i| y[(i, g)] * y[(i, g)]).sum()
            };
            for &lengthscale in lengthscales {
                let kernel = se(lengthscale);
                let dense = Spectrum::dense(kernel, &locations).unwrap();
                let profile = Profile::new(&dense);
                let krylov = prepared(kernel, &locations);
                assert!((krylov.gower() - profile.gower()).abs() < 1e-6);
                let reliable = krylov.grid()[0];
                let mut worst = (0.0_f64, f64::NAN);
                for (i, &x) in krylov.grid().iter().enumerate() {
                    let error = 0.5 * (krylov.log_det[krylov.reliable + i] - profile.log_det(x.exp()));
                    if error.abs() > worst.0.abs() {
                        worst = (error, x);
                    }
                }
                println!(
                    "n {} l {lengthscale}: reliable {reliable}, half log det off by {:.2e} at {}",
                    krylov.n, worst.0, worst.1
                );

                let found = krylov.quadratures(y.as_ref(), &vec![true; y.ncols()]);
                let mut z = Mat::zeros(dense.rank(), y.ncols());
                dense.project(y.as_ref(), z.as_mut());
                for (g, quadrature) in found.iter().enumerate() {
                    let quadrature = quadrature.as_ref().unwrap();
                    let converged = quadrature.ceiling == f64::NEG_INFINITY;
                    let best = |scanned: &[f64], refined: &dyn Fn(Candidate) -> Maximum| {
                        let mut best: Option<Maximum> = None;
                        candidates(scanned, krylov.n, |c| {
                            let maximum = refined(c);
                            if best.is_none_or(|b| maximum.value > b.value) {
                                best = Some(maximum);
                            }
                        });
                        best.unwrap()
                    };
                    let exact = profile.gene(z.col_as_slice(g), |p| squares(g, p));
                    let n = krylov.n as f64;
                    let null = constant_loglik(krylov.n);
                    let scanned: Vec<f64> = profile
                        .grid()
                        .iter()
                        .map(|&x| n * (-2.0 / n * (exact.evaluate(x).value - null)).exp())
                        .collect();
                    let truth = best(&scanned, &|c| exact.refine(c));
                    let own = best(&krylov.scan(quadrature), &|c| krylov.refine(quadrature, c));
                    let llr = truth.value - null;
                    let error = own.value - truth.value;
                    println!(
                        "  gene {g}: LLR {llr:.3} at {:.2}, error {error:.1e}, converged {}",
                        truth.log_delta, converged
                    );
                    if converged {
                        assert!(error.abs() < 0.02 + 1e-4 * llr);
                        let (means, s2) = krylov.mean_and_scale(quadrature, y.col_as_slice(g), own.log_delta);
                        let (exact_means, exact_s2) = exact.mean_and_scale(own.log_delta);
                        assert!((s2 / exact_s2 - 1.0).abs() < 1e-3);
                        for (a, b) in means.iter().zip(&exact_means) {
                            assert!((a - b).abs() < 1e-3, "{a} {b}");
                        }
                    } else {
                        assert!(truth.log_delta < 0.0, "only strong signals may not converge");
                    }
                }
            }
        }
    }
}
