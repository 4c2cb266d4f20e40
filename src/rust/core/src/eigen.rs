//! Dense eigendecompositions.

mod tridiagonal;

use crate::error::{Error, Result};
use crate::interrupt;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{
    ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch, tridiagonal_self_adjoint_evd,
};
use faer::{Mat, MatRef, Par};
use tridiagonal::Tridiagonal;

/// Matrices with more rows are worked on in two parts, and the work can be interrupted.
const SEQUENTIAL: usize = 1000;

/// Eigenvalues in increasing order, and eigenvectors. `None` where it does not converge or was interrupted: [`failed`] tells.
///
/// Large matrices are worked on in two parts, whatever the number of threads, so that results do not depend on it.
pub(crate) fn eigen(k: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    if k.nrows() > SEQUENTIAL { large(k.to_owned()).ok()? } else { small(k) }
}

/// The same of a matrix that is not needed any more, which saves its memory.
pub(crate) fn eigen_of(k: Mat<f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    if k.nrows() > SEQUENTIAL { large(k).ok()? } else { small(k.as_ref()) }
}

/// Why a decomposition of something was not to be had.
pub(crate) fn failed(of: &str) -> Error {
    if interrupt::requested() { Error::Interrupted } else { Error::NoConvergence(of.to_string()) }
}

fn small(k: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = k.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    self_adjoint_evd(
        k,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .ok()?;
    Some((values.column_vector().iter().copied().collect(), vectors))
}

/// Nine tenths of the time go into the tridiagonal form, which looks for interrupts.
fn large(k: Mat<f64>) -> Result<Option<(Vec<f64>, Mat<f64>)>> {
    let n = k.nrows();
    let form = Tridiagonal::new(k)?;
    let mut values = Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let par = Par::rayon(2);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, par, Default::default());
    let found = tridiagonal_self_adjoint_evd(
        form.diagonal(),
        form.off_diagonal(),
        values.as_mut(),
        Some(vectors.as_mut()),
        par,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    );
    interrupt::check()?;
    if found.is_err() {
        return Ok(None);
    }
    form.turn_back(vectors.as_mut())?;
    Ok(Some((values.column_vector().iter().copied().collect(), vectors)))
}

/// Eigenvalues in increasing order, without eigenvectors. `None` where it does not converge.
pub(crate) fn eigenvalues_of(k: MatRef<'_, f64>) -> Option<Vec<f64>> {
    let n = k.nrows();
    let mut values = Diag::<f64>::zeros(n);
    let mut memory = MemBuffer::new(self_adjoint_evd_scratch::<f64>(
        n,
        ComputeEigenvectors::No,
        Par::Seq,
        Default::default(),
    ));
    self_adjoint_evd(k, values.as_mut(), None, Par::Seq, MemStack::new(&mut memory), Default::default())
        .ok()?;
    Some(values.column_vector().iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{irregular, se};

    #[test]
    fn large_matrices_are_decomposed_as_small_ones_are() {
        let locations = irregular(300, 2, 4);
        for lengthscale in [0.4, 3.0] {
            let k = se(lengthscale).at(&locations).block(0..300);
            let (values, vectors) = large(k.clone()).unwrap().unwrap();
            let (expected, _) = small(k.as_ref()).unwrap();
            for (a, b) in values.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-12 * expected[299], "{a} {b}");
            }
            let gram = vectors.transpose() * &vectors - Mat::<f64>::identity(300, 300);
            assert!(gram.norm_max() < 1e-12);
            let scaled = Mat::from_fn(300, 300, |i, j| vectors[(i, j)] * values[j]);
            assert!((&scaled * vectors.transpose() - &k).norm_max() < 1e-12 * expected[299]);
        }
    }
}
