//! Residuals of counts beside depth. What all genes share comes from R as a list of plain vectors, so that it can go to
//! other processes.

use crate::convert::{matrix, message, to_r};
use crate::run::in_pool;
use extendr_api::prelude::*;
use extendr_api::{Error, Result};
use patina_core::depth::{Counts, Departure, Depth, Spots, Spread, group_sums};
use patina_core::patches::Patches;

/// Patches of neighbouring spots: `rows`, `starts` and `basis`, counted from 0. Samples counted from 1.
/// @noRd
#[extendr]
fn rust_patches(coords: RMatrix<f64>, sample: &[i32]) -> Result<List> {
    let patches = Patches::new(matrix(&coords), &samples(sample)).map_err(message)?;
    let integers = |x: &[usize]| x.iter().map(|&x| x as i32).collect::<Vec<_>>();
    Ok(list!(rows = integers(patches.rows()), starts = integers(patches.starts()), basis = patches.basis()))
}

/// How far genes depart from being proportional to depth, in its rough and in its smooth part. `counts` are a matrix, or
/// a list of the parts `starts`, `rows` (from 0) and `values` of a sparse one.
/// @noRd
#[extendr]
fn rust_departures(
    depth: List,
    counts: Robj,
    rates: RMatrix<f64>,
    weights: &[f64],
    threads: i32,
) -> Result<List> {
    let depth = read_depth(&depth)?;
    let rates = matrix(&rates);
    let (rough, smooth) = with_counts(counts, depth.n(), |counts| {
        in_pool(threads, || depth.departures(counts, rates, weights))
    })?;
    let columns = |all: &[Departure]| {
        let column = |of: &dyn Fn(&Departure) -> f64| all.iter().map(of).collect::<Vec<f64>>();
        list!(
            energy = column(&|d| d.energy),
            signal = column(&|d| d.signal),
            product = column(&|d| d.product),
            variance = column(&|d| d.variance)
        )
    };
    Ok(list!(rough = columns(&rough), smooth = columns(&smooth)))
}

/// The spread of departures over genes.
/// @noRd
#[extendr]
fn rust_spread(rough: List, smooth: List) -> Result<List> {
    let spread = Spread::of(&departures(&rough)?, &departures(&smooth)?);
    Ok(list!(
        tau = spread.tau,
        rough = spread.rough,
        smooth = spread.smooth,
        rough_is_known = spread.rough_is_known
    ))
}

/// Residuals of the genes in the columns of `counts`.
/// @noRd
#[extendr]
fn rust_depth_residuals(
    depth: List,
    counts: RMatrix<f64>,
    rates: RMatrix<f64>,
    weights: &[f64],
    tau: f64,
    rough_is_known: bool,
    threads: i32,
) -> Result<RMatrix<f64>> {
    let depth = read_depth(&depth)?;
    let (counts, rates) = (Counts::Dense(matrix(&counts)), matrix(&rates));
    let spread = Spread { tau, rough: tau, smooth: tau, rough_is_known };
    let residuals = in_pool(threads, || depth.residuals(counts, rates, weights, &spread))?;
    Ok(to_r(residuals.as_ref()))
}

/// Sums of counts, given as in `rust_departures()`, over groups of spots, counted from 1: groups × genes.
/// @noRd
#[extendr]
fn rust_group_sums(counts: Robj, group: &[i32], groups: i32, threads: i32) -> Result<RMatrix<f64>> {
    let (group, groups) = (samples(group), groups.max(0) as usize);
    let sums =
        with_counts(counts, group.len(), |counts| in_pool(threads, || group_sums(counts, &group, groups)))?;
    Ok(to_r(sums.as_ref()))
}

/// Does something with counts, a matrix or the parts of a sparse one.
fn with_counts<T>(counts: Robj, spots: usize, work: impl FnOnce(Counts<'_>) -> Result<T>) -> Result<T> {
    if let Some(parts) = counts.as_list() {
        // without a copy
        let (starts, rows, values) =
            (part(&parts, "starts")?, part(&parts, "rows")?, part(&parts, "values")?);
        let slices = (starts.as_integer_slice(), rows.as_integer_slice(), values.as_real_slice());
        let (Some(starts), Some(rows), Some(values)) = slices else {
            return Err(Error::Other("sparse counts must be integer and double".to_string()));
        };
        return work(Counts::Sparse { spots, starts, rows, values });
    }
    let counts: RMatrix<f64> = counts.try_into()?;
    work(Counts::Dense(matrix(&counts)))
}

fn read_depth(list: &List) -> Result<Depth> {
    let from_zero = |codes: Vec<i32>| codes.into_iter().map(|code| code.max(0) as usize).collect::<Vec<_>>();
    let patches = Patches::from_parts(
        from_zero(integers(list, "rows")?),
        from_zero(integers(list, "starts")?),
        doubles(list, "basis")?,
    )
    .map_err(message)?;
    let covariates: RMatrix<f64> = part(list, "covariates")?.try_into()?;
    let spots = Spots {
        size: &doubles(list, "size")?,
        depth: &doubles(list, "depth")?,
        sample: &samples(&integers(list, "sample")?),
        floor: &doubles(list, "floor")?,
        error: &doubles(list, "error")?,
        own: &doubles(list, "own")?,
        covariates: matrix(&covariates),
        phi: doubles(list, "phi")?.first().copied().unwrap_or(f64::NAN),
    };
    Depth::new(patches, spots).map_err(message)
}

fn departures(list: &List) -> Result<Vec<Departure>> {
    let (energy, signal) = (doubles(list, "energy")?, doubles(list, "signal")?);
    let (product, variance) = (doubles(list, "product")?, doubles(list, "variance")?);
    Ok(energy
        .into_iter()
        .zip(signal)
        .zip(product.into_iter().zip(variance))
        .map(|((energy, signal), (product, variance))| Departure { energy, signal, product, variance })
        .collect())
}

fn doubles(list: &List, name: &str) -> Result<Vec<f64>> {
    part(list, name)?.as_real_vector().ok_or_else(|| Error::Other(format!("{name} must be double")))
}

fn integers(list: &List, name: &str) -> Result<Vec<i32>> {
    part(list, name)?.as_integer_vector().ok_or_else(|| Error::Other(format!("{name} must be integer")))
}

fn part(list: &List, name: &str) -> Result<Robj> {
    let found = list.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value).ok_or_else(|| Error::Other(format!("there is no {name}")))
}

/// Sample codes from 0.
fn samples(codes: &[i32]) -> Vec<usize> {
    codes.iter().map(|&code| code.max(1) as usize - 1).collect()
}

extendr_module! {
    mod depth;
    fn rust_patches;
    fn rust_departures;
    fn rust_group_sums;
    fn rust_spread;
    fn rust_depth_residuals;
}
