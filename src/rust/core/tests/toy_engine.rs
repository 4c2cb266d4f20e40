//! The border is real: a dense engine of a few lines plugs into it and gives the same numbers as the crate's own.

use faer::{Mat, Side};
use patina_core::likelihood::{Candidate, Maximum, Terms, candidates, log_delta_grid, refine};
use patina_core::model::{Block, Likelihood, Model, View};
use patina_core::null::{KernelForms, dense_forms, score_rows};
use patina_core::prepare::AnyModel;
use patina_core::random::SplitMix64;
use patina_core::{Approximation, Kernel, Locations, Request, Result, SpatialTest};
use std::sync::Arc;

// One line for what rustfmt makes three: the engine is to be short.
#[rustfmt::skip]
mod toy {
    use super::*;

    // The engine: the eigenvalues of K and the eigenpairs of H K H, for one sample.
    #[derive(Debug)]
    pub struct Toy(Kernel, Vec<f64>, Vec<f64>, Mat<f64>);

    impl Toy {
        pub fn new(kernel: Kernel, locations: &Locations) -> Self {
            let n = locations.len();
            let h = Mat::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) - 1.0 / n as f64);
            let k = kernel.at(locations).block(0..n);
            let values = k.self_adjoint_eigenvalues(Side::Lower).unwrap();
            let centred = (&h * k * &h).self_adjoint_eigen(Side::Lower).unwrap();
            Self(kernel, values, centred.S().column_vector().iter().copied().collect(), centred.U().to_owned())
        }
    }

    impl Model for Toy {
        fn kernel(&self) -> Kernel { self.0 }
        fn engine(&self) -> &'static str { "toy" }
        fn rank(&self) -> usize { self.1.len() }
        fn gower(&self) -> f64 { self.2.iter().sum::<f64>() / (self.2.len() - 1) as f64 }
        fn error_bound(&self) -> f64 { 0.0 }
        fn forms(&self, locations: &Locations, deltas: &[f64]) -> KernelForms {
            let scaled = |d: f64| Mat::from_fn(self.rank(), self.rank(), |i, k| self.3[(i, k)] * weight(self.2[k], d));
            let forms: Vec<_> = deltas.iter().map(|&d| Some(scaled(d) * self.3.transpose())).collect();
            dense_forms(&forms, &score_rows(locations, 0..locations.len())).unwrap()
        }
        fn view<'a>(&'a self, block: &'a Block<'a>) -> Result<Box<dyn View + 'a>> {
            Ok(Box::new(ToyView(self, block, self.3.transpose() * block.values())))
        }
    }

    struct ToyView<'a>(&'a Toy, &'a Block<'a>, Mat<f64>);

    fn weight(value: f64, delta: f64) -> f64 { if delta.is_infinite() { value } else { value / (value + delta) } }

    impl ToyView<'_> {
        fn sum(&self, g: usize, f: impl Fn(f64) -> f64) -> f64 { self.0.2.iter().zip(self.2.col_as_slice(g)).map(|(v, z)| z * z * f(*v)).sum() }
        fn terms(&self, gene: usize, d: f64) -> Terms {
            let [quadratic, quadratic2, quadratic3] = [1, 2, 3].map(|p| self.sum(gene, |v| (v + d).powi(-p)));
            let [trace, trace2] = [1, 2].map(|p| self.0.1.iter().map(|v| (v + d).powi(-p)).sum());
            Terms { quadratic, quadratic2, quadratic3, log_det: self.0.1.iter().map(|v| (v + d).ln()).sum(), trace, trace2 }
        }
    }

    impl View for ToyView<'_> {
        fn likelihood(&self) -> Option<&dyn Likelihood> { Some(self) }
        fn forms(&self, gene: usize, out: &mut [f64]) {
            out.iter_mut().zip(self.1.deltas).for_each(|(out, &d)| *out = self.sum(gene, |v| weight(v, d)));
        }
    }

    impl Likelihood for ToyView<'_> {
        fn scan(&self, gene: usize, found: &mut dyn FnMut(Candidate)) {
            let at = |t: Terms| t.quadratic * (t.log_det / self.0.rank() as f64).exp();
            let scanned: Vec<f64> = log_delta_grid().iter().map(|x| at(self.terms(gene, x.exp()))).collect();
            candidates(&scanned, self.0.rank(), found);
        }
        fn refine(&self, gene: usize, candidate: Candidate) -> Maximum {
            let evaluate = |x: f64| self.terms(gene, x.exp()).evaluate(self.0.rank(), x.exp());
            refine(candidate, &log_delta_grid(), evaluate, |x| evaluate(x).value)
        }
        fn mean_and_scale(&self, gene: usize, log_delta: f64) -> (Vec<f64>, f64) {
            (vec![f64::NAN], self.terms(gene, log_delta.exp()).quadratic / self.0.rank() as f64)
        }
    }
}

#[test]
fn gives_the_numbers_of_the_exact_engine() {
    let mut random = SplitMix64::new(4, &[]);
    let coords = Mat::from_fn(60, 2, |_, _| 8.0 * random.uniform());
    let locations = Locations::new(coords.as_ref()).unwrap();
    let kernels = [Kernel::squared_exponential(1.0).unwrap(), Kernel::matern32(3.0).unwrap()];
    let y = Mat::from_fn(60, 12, |i, g| (g as f64 * coords[(i, 0)] / 8.0).sin() + 0.5 * random.normal());
    let exact =
        SpatialTest::with_groups(&kernels, &[0, 0], locations.clone(), Request::test(Approximation::Exact));
    let toys = kernels.map(|kernel| AnyModel::Other(Arc::new(toy::Toy::new(kernel, &locations))));
    let toy = SpatialTest::from_models(toys.to_vec(), vec![0, 0], locations);
    let fit = |test: SpatialTest| test.calibrate().unwrap().fit(y.as_ref()).unwrap();
    for (own, exact) in fit(toy).iter().zip(fit(exact.unwrap())) {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-7 * (1.0 + b.abs()), "{a} {b}");
        let (a, b) = (&own.best[0], &exact.best[0]);
        assert_eq!(a.kernel, b.kernel);
        close(a.llr, b.llr);
        close(a.fsv, b.fsv);
        close(a.var_spatial, b.var_spatial);
        close(own.calibrated.unwrap().log10_pval, exact.calibrated.unwrap().log10_pval);
    }
}
