//! Dense eigendecompositions.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};

/// Matrices with more rows are worked on in two parts.
const SEQUENTIAL: usize = 1000;

/// Eigenvalues in increasing order, and eigenvectors. `None` where it does not converge.
///
/// Large matrices are worked on in two parts, whatever the number of threads, so that results do not depend on it.
pub(crate) fn eigen(k: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = k.nrows();
    let par = if n > SEQUENTIAL { Par::rayon(2) } else { Par::Seq };
    let mut values = faer::diag::Diag::<f64>::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    let mut memory =
        MemBuffer::new(self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, par, Default::default()));
    self_adjoint_evd(
        k,
        values.as_mut(),
        Some(vectors.as_mut()),
        par,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .ok()?;
    Some((values.column_vector().iter().copied().collect(), vectors))
}

/// Eigenvalues in increasing order, without eigenvectors. `None` where it does not converge.
pub(crate) fn eigenvalues_of(k: MatRef<'_, f64>) -> Option<Vec<f64>> {
    let n = k.nrows();
    let mut values = faer::diag::Diag::<f64>::zeros(n);
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
