#' Bytes of memory that may still be used; infinite where the system does not say.
#' @noRd
rust_available_memory <- function() .Call(wrap__rust_available_memory)

#' Keeps errors from printing: they reach R as conditions, by way of a panic.
#' @noRd
rust_silence_panics <- function() .Call(wrap__rust_silence_panics)

#' Patches of neighbouring spots: `rows`, `starts` and `basis`, counted from 0. Samples counted from 1.
#' @noRd
rust_patches <- function(coords, sample) .Call(wrap__rust_patches, coords, sample)

#' How far genes depart from being proportional to depth, in its rough and in its smooth part. `counts` are a matrix, or
#' a list of the parts `starts`, `rows` (from 0) and `values` of a sparse one.
#' @noRd
rust_departures <- function(depth, counts, rates, weights, threads) .Call(wrap__rust_departures, depth, counts, rates, weights, threads)

#' Sums of counts, given as in `rust_departures()`, over groups of spots, counted from 1: groups × genes.
#' @noRd
rust_group_sums <- function(counts, group, groups, threads) .Call(wrap__rust_group_sums, counts, group, groups, threads)

#' The spread of departures over genes.
#' @noRd
rust_spread <- function(rough, smooth) .Call(wrap__rust_spread, rough, smooth)

#' Residuals of the genes in the columns of `counts`.
#' @noRd
rust_depth_residuals <- function(depth, counts, rates, weights, tau, rough_is_known, threads) .Call(wrap__rust_depth_residuals, depth, counts, rates, weights, tau, rough_is_known, threads)

#' Rows that are left out in turn, counted from 1.
#' @noRd
rust_factor_folds <- function(coords, sizes) .Call(wrap__rust_factor_folds, coords, sizes)

#' Spatial factors; `n_factors` 0 chooses up to `most`, no lengthscales mean a grid by the distances, `means` without
#' rows are none.
#' @noRd
rust_find_factors <- function(coords, sizes, y, means, n_factors, most, lengthscales, max_iterations, genes, fold_genes, threads) .Call(wrap__rust_find_factors, coords, sizes, y, means, n_factors, most, lengthscales, max_iterations, genes, fold_genes, threads)

#' Smooth fields at new locations; samples counted from 1.
#' @noRd
rust_predict_factors <- function(coords, sizes, seen, lengthscales, delta, prior, new, sample, threads) .Call(wrap__rust_predict_factors, coords, sizes, seen, lengthscales, delta, prior, new, sample, threads)

#' Domains of factors, counted from 1.
#' @noRd
rust_find_domains <- function(coords, sizes, smooth, total, n_domains, threads) .Call(wrap__rust_find_domains, coords, sizes, smooth, total, n_domains, threads)

#' Moran's I of genes over neighbouring spots.
#' @noRd
rust_morans_i <- function(coords, sizes, y, threads) .Call(wrap__rust_morans_i, coords, sizes, y, threads)

#' The field of a gene at its own locations (`new` without rows) or at new ones; samples counted from 1.
#' @noRd
rust_gene_field <- function(coords, sizes, y, lengthscale, delta, variance, level, new, sample, threads) .Call(wrap__rust_gene_field, coords, sizes, y, lengthscale, delta, variance, level, new, sample, threads)

#' Spatial cross-correlations of all pairs of genes.
#' @noRd
rust_cross_correlations <- function(coords, sizes, y, lengthscale, threads) .Call(wrap__rust_cross_correlations, coords, sizes, y, lengthscale, threads)

#' The typical distance of neighbouring locations.
#' @noRd
rust_spacing <- function(coords, sizes) .Call(wrap__rust_spacing, coords, sizes)

#' The best patterns over lengthscales and numbers of patterns; patterns and genes counted from 1.
#' @noRd
rust_find_patterns <- function(coords, sizes, y, lengthscales, n_patterns, restarts, seed, tolerance, max_iterations, approximation, threads) .Call(wrap__rust_find_patterns, coords, sizes, y, lengthscales, n_patterns, restarts, seed, tolerance, max_iterations, approximation, threads)

#' Patterns at new locations; samples counted from 1.
#' @noRd
rust_predict_patterns <- function(coords, sizes, lengthscale, coefficients, pattern_sizes, noise, new, sample, approximation, threads) .Call(wrap__rust_predict_patterns, coords, sizes, lengthscale, coefficients, pattern_sizes, noise, new, sample, approximation, threads)

#' Storey-Tibshirani q-values; NA stays NA, `pi0` `NULL` or NA means that it is estimated.
#' @noRd
rust_qvalues <- function(p, pi0) .Call(wrap__rust_qvalues, p, pi0)

#' The default scales of kernels: `lengthscale`, `period`, or `spatialde` for SpatialDE's ten for both.
#' @noRd
rust_scale_grid <- function(coords, sizes, what) .Call(wrap__rust_scale_grid, coords, sizes, what)

#' Decomposes the kernels; each gene will get the best kernel of each group (counted from 1), a calibrated p-value if
#' asked for, and the fraction of spatial variance that locations share, or SpatialDE's. `tick` is `NULL` or a function of
#' the steps that are done and of all that are known of.
#' @noRd
rust_prepare_test <- function(coords, sizes, models, lengthscales, groups, calibrated, shared, approximation, fit, threads, tick) .Call(wrap__rust_prepare_test, coords, sizes, models, lengthscales, groups, calibrated, shared, approximation, fit, threads, tick)

#' Writes prepared kernels to a file, for another process.
#' @noRd
rust_save_test <- function(test, path) .Call(wrap__rust_save_test, test, path)

#' Reads kernels that `rust_save_test()` has written.
#' @noRd
rust_load_test <- function(path) .Call(wrap__rust_load_test, path)

#' What is known of the kernels: which of those asked for (counted from 1; cosines may have been left out), engine, rank, and about the largest error of a log likelihood ratio at delta = 1.
#' @noRd
rust_describe_test <- function(test) .Call(wrap__rust_describe_test, test)

#' Tests the genes in the columns of `y`: one element for each gene, of its best kernel by the information criterion;
#' `probabilities` has one for each gene and group, groups varying fastest.
#' @noRd
rust_fit_genes <- function(test, y, threads) .Call(wrap__rust_fit_genes, test, y, threads)

#' Whether genes can be given as `rust_fit_combined()` takes them.
#' @noRd
rust_takes_combinations <- function(test) .Call(wrap__rust_takes_combinations, test)

#' Products of functions of the locations, the columns of `functions`. `tick` as in `rust_prepare_test()`.
#' @noRd
rust_prepare_basis <- function(test, functions, threads, tick) .Call(wrap__rust_prepare_basis, test, functions, threads, tick)

#' Tests genes that are combinations of a basis' functions (`coefficients`: functions × samples × genes) plus the entries
#' of a sparse matrix (locations × genes, column by column: `starts` from 0, `rows` from 0, ascending).
#' @noRd
rust_fit_combined <- function(test, basis, coefficients, starts, rows, values, threads) .Call(wrap__rust_fit_combined, test, basis, coefficients, starts, rows, values, threads)

