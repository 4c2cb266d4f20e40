//! The test, with its kernels held on the R side as an external pointer.

use crate::convert::{NA_REAL, kernels, locations, matrix, message};
use crate::run::{Watch, in_own_pool, in_pool, in_watched_pool};
use extendr_api::Result;
use extendr_api::prelude::*;
use patina_core::engine::Fit;
use patina_core::grid::basis::{Basis, Entries};
use patina_core::memory::available;
use patina_core::model_search::{Comparison, compare};
use patina_core::spatial_test::{GeneFit, KernelFit, Status};
use patina_core::{Approximation, Request, SpatialTest, scales};

/// The default scales of kernels: `lengthscale`, `period`, or `spatialde` for SpatialDE's ten for both.
/// @noRd
#[extendr]
fn rust_scale_grid(coords: RMatrix<f64>, sizes: &[i32], what: &str) -> Result<Vec<f64>> {
    let (locations, unit) = locations(&coords, sizes)?;
    let own = match what {
        "period" => scales::periods(&locations),
        "spatialde" => scales::spatialde(&locations, 10),
        _ => scales::lengthscales(&locations),
    };
    Ok(own.into_iter().map(|scale| scale * unit).collect())
}

/// Decomposes the kernels; each gene will get the best kernel of each group (counted from 1), a calibrated p-value if
/// asked for, and the fraction of spatial variance that locations share, or SpatialDE's. `tick` is `NULL` or a function of
/// the steps that are done and of all that are known of.
/// @noRd
#[extendr]
#[allow(clippy::too_many_arguments)]
fn rust_prepare_test(
    coords: RMatrix<f64>,
    sizes: &[i32],
    models: Vec<String>,
    lengthscales: &[f64],
    groups: &[i32],
    calibrated: bool,
    shared: bool,
    approximation: &str,
    fit: &str,
    threads: i32,
    tick: Robj,
) -> Result<ExternalPtr<SpatialTest>> {
    let (locations, unit) = locations(&coords, sizes)?;
    let kernels = kernels(&models, lengthscales, unit)?;
    let approximation = Approximation::from_name(approximation).map_err(message)?;
    let fit = Fit::from_name(fit).map_err(message)?;
    let request = Request { fit, memory: available(), ..Request::test(approximation) };
    let groups: Vec<usize> = groups.iter().map(|&g| g.max(1) as usize - 1).collect();
    let test = in_own_pool(threads, &Watch::new(tick), move || {
        let test = SpatialTest::with_groups(&kernels, &groups, locations, request)?;
        let test = if shared { test.shared_variance() } else { test };
        if calibrated { test.calibrate() } else { Ok(test) }
    })?;
    Ok(ExternalPtr::new(test))
}

/// Writes prepared kernels to a file, for another process.
/// @noRd
#[extendr]
fn rust_save_test(test: ExternalPtr<SpatialTest>, path: &str) -> Result<()> {
    patina_core::storage::save(&test, path.as_ref()).map_err(message)
}

/// Reads kernels that `rust_save_test()` has written.
/// @noRd
#[extendr]
fn rust_load_test(path: &str) -> Result<ExternalPtr<SpatialTest>> {
    Ok(ExternalPtr::new(patina_core::storage::load(path.as_ref()).map_err(message)?))
}

/// What is known of the kernels: which of those asked for (counted from 1; cosines may have been left out), engine, rank, and about the largest error of a log likelihood ratio at delta = 1.
/// @noRd
#[extendr]
fn rust_describe_test(test: ExternalPtr<SpatialTest>) -> List {
    let models = test.models();
    list!(
        kernel = test.kept().iter().map(|&k| k as i32 + 1).collect::<Vec<_>>(),
        engine = models.iter().map(|m| m.engine()).collect::<Vec<_>>(),
        rank = models.iter().map(|m| m.rank() as i32).collect::<Vec<_>>(),
        error_bound = models.iter().map(|m| m.error_bound()).map(known).collect::<Vec<_>>()
    )
}

/// Tests the genes in the columns of `y`: one element for each gene, of its best kernel by the information criterion;
/// `probabilities` has one for each gene and group, groups varying fastest.
/// @noRd
#[extendr]
fn rust_fit_genes(test: ExternalPtr<SpatialTest>, y: RMatrix<f64>, threads: i32) -> Result<List> {
    let y = matrix(&y);
    let test: &SpatialTest = &test;
    fits_to_r(test, &in_pool(threads, || test.fit(y))?)
}

/// Whether genes can be given as `rust_fit_combined()` takes them.
/// @noRd
#[extendr]
fn rust_takes_combinations(test: ExternalPtr<SpatialTest>) -> bool {
    test.takes_combinations()
}

/// Products of functions of the locations, the columns of `functions`. `tick` as in `rust_prepare_test()`.
/// @noRd
#[extendr]
fn rust_prepare_basis(
    test: ExternalPtr<SpatialTest>,
    functions: RMatrix<f64>,
    threads: i32,
    tick: Robj,
) -> Result<ExternalPtr<Basis>> {
    let test: &SpatialTest = &test;
    let functions = matrix(&functions);
    let basis = in_watched_pool(threads, &Watch::new(tick), || test.basis(functions))?;
    Ok(ExternalPtr::new(basis))
}

/// Tests genes that are combinations of a basis' functions (`coefficients`: functions × samples × genes) plus the entries
/// of a sparse matrix (locations × genes, column by column: `starts` from 0, `rows` from 0, ascending).
/// @noRd
#[extendr]
fn rust_fit_combined(
    test: ExternalPtr<SpatialTest>,
    basis: ExternalPtr<Basis>,
    coefficients: &[f64],
    starts: &[i32],
    rows: &[i32],
    values: &[f64],
    threads: i32,
) -> Result<List> {
    let (test, basis): (&SpatialTest, &Basis) = (&test, &basis);
    let rows: Vec<u32> = rows.iter().map(|&row| row.max(0) as u32).collect();
    let entries: Vec<Entries<'_>> = starts
        .windows(2)
        .map(|ends| {
            let range = ends[0].max(0) as usize..ends[1].max(0) as usize;
            Entries { rows: &rows[range.clone()], values: &values[range] }
        })
        .collect();
    fits_to_r(test, &in_pool(threads, || test.fit_combined(basis, coefficients, &entries))?)
}

fn fits_to_r(test: &SpatialTest, fits: &[GeneFit]) -> Result<List> {
    let compared: Vec<Option<Comparison>> = fits.iter().map(compare).collect();
    let column = |of: &dyn Fn(&KernelFit) -> f64| -> Vec<f64> {
        compared.iter().map(|c| c.as_ref().map_or(NA_REAL, |c| known(of(&c.best)))).collect()
    };
    let untested = vec![NA_REAL; test.n_groups()];
    let probabilities = compared.iter().flat_map(|c| c.as_ref().map_or(&untested, |c| &c.probabilities));
    Ok(list!(
        status = fits.iter().map(|f| f.status.name()).collect::<Vec<_>>(),
        by = fits.iter().map(|f| f.by.name()).collect::<Vec<_>>(),
        loglik_null = fits.iter().map(null_or_na).collect::<Vec<_>>(),
        pval = fits.iter().map(|f| f.calibrated.map_or(NA_REAL, |p| p.pval)).collect::<Vec<_>>(),
        log10_pval = fits.iter().map(|f| f.calibrated.map_or(NA_REAL, |p| p.log10_pval)).collect::<Vec<_>>(),
        kernel = column(&|k| k.kernel as f64 + 1.0),
        log_delta = column(&|k| k.log_delta),
        loglik = column(&|k| k.loglik),
        llr = column(&|k| k.llr),
        bic = column(&|k| k.bic),
        fsv = column(&|k| k.fsv),
        fsv_se = column(&|k| k.fsv_se.unwrap_or(NA_REAL)),
        fsv_lower = column(&|k| k.fsv_interval.0),
        fsv_upper = column(&|k| k.fsv_interval.1),
        mean = column(&|k| k.mean),
        var_spatial = column(&|k| k.var_spatial),
        var_noise = column(&|k| k.var_noise),
        probabilities = probabilities.copied().collect::<Vec<f64>>()
    ))
}

/// A number that R can tell from NaN.
fn known(value: f64) -> f64 {
    if value.is_nan() { NA_REAL } else { value }
}

fn null_or_na(fit: &GeneFit) -> f64 {
    if fit.status == Status::Ok { fit.loglik_null } else { NA_REAL }
}

extendr_module! {
    mod spatial_test;
    fn rust_scale_grid;
    fn rust_prepare_test;
    fn rust_save_test;
    fn rust_load_test;
    fn rust_describe_test;
    fn rust_fit_genes;
    fn rust_takes_combinations;
    fn rust_prepare_basis;
    fn rust_fit_combined;
}
