#' Say what kind of spatial function each gene follows
#'
#' Fits three families of kernels to each gene, with the same likelihood as [spatial_test()]: squared
#' exponential (`SE`, any smooth pattern), cosine (`PER`, a repeating one) and `linear` (a gradient), and
#' compares the best of each by the Bayesian information criterion.
#'
#' @section Probabilities:
#' With a flat prior over the families, a family's probability is proportional to its marginal likelihood,
#' of which exp(-bic / 2) is the standard approximation: `probabilities = "bic"`. SpatialDE normalises
#' exp(-bic), which squares all odds and makes every decision look far more certain than the data do;
#' `"spatialde"` is there to compare. It takes SpatialDE's lengthscales and its fraction of spatial variance,
#' too, so that the best family may be another one.
#'
#' `bic = -2 loglik + M log(n)` with M = 4 parameters for SE and PER (mean, variance, delta,
#' lengthscale) and 3 for linear.
#'
#' @inheritParams spatial_test
#' @param genes Which genes: a result of [spatial_test()], perhaps filtered: if it has all genes of `x`,
#'   those with `qval` below 0.05 are taken, otherwise its genes as they are; its p-values are carried
#'   along. Or a character vector of names. `NULL` runs [spatial_test()] first. If `x` carries its own
#'   coordinates, a table of results may stand in the second place: `model_search(spe, hits)`.
#' @param results The former name of `genes`.
#' @param kernels The families to compare.
#' @param probabilities How probabilities follow from the criterion; see below.
#' @returns A tibble with one row for each gene, in the order of `genes`:
#' \describe{
#'   \item{gene}{name}
#'   \item{model, lengthscale}{the best family; its lengthscale (SE) or period (PER) in units of `coords`}
#'   \item{loglik, bic, fsv}{of the best family: log likelihood, criterion, fraction of variance that is
#'     spatial}
#'   \item{prob_SE, prob_PER, prob_linear}{probabilities of the families, adding up to 1}
#'   \item{pval, qval}{of the test, if `genes` has them}
#' }
#' A gene that could not be fitted has `NA` in its row.
#' @section Large tissues:
#' From 20,000 spots on kernels are interpolated from a lattice (the engine `"interpolated"`), short SE
#' kernels in independent tiles of the tissue: 100,000 spots take about two minutes to prepare, and little
#' for each gene. Log likelihood ratios are then right to about a thousandth, those of short SE kernels to a
#' twentieth, too low. Below 20,000 spots they are as exact as those of [spatial_test()].
#'
#' Above 5,000 spots the shortest periods of the PER kernel cannot be had, from 20,000 on those below about a
#' twelfth of the tissue's side: they are left out, with a warning of class `patina_warning_kernels` that
#' names them, and all other kernels are compared. More under Large tissues in [spatial_test()].
#' @section Errors:
#' Those of [spatial_test()]; `patina_error_names` if `genes` are not in `x`.
#' @references
#' V. Svensson, S. A. Teichmann, O. Stegle (2018). SpatialDE: identification of spatially variable genes.
#' *Nature Methods* 15. \doi{10.1038/nmeth.4636}
#' @seealso [spatial_test()], [plot_test()]
#' @export
#' @examples
#' tissue <- example_tissue()
#' coords <- tissue$sample_info[c("x", "y")]
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' model_search(tissue$counts, coords, results[1:20, ], threads = 1)
model_search <- function(
  x,
  coords = NULL,
  genes = NULL,
  ...,
  kernels = c("SE", "PER", "linear"),
  lengthscales = NULL,
  probabilities = c("bic", "spatialde"),
  normalization = c("pearson", "anscombe", "none"),
  covariates = NULL,
  size_factors = NULL,
  depth = c("auto", "shrunk", "regression", "offset"),
  approximation = c("auto", "exact", "pivoted_cholesky", "krylov"),
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  threads = NULL,
  BPPARAM = NULL, # nolint: object_name_linter.
  progress = interactive(),
  results = NULL
) {
  from <- source_options(...)
  probabilities <- checked(rlang::arg_match(probabilities))
  settings <- new_settings(normalization, covariates, size_factors, depth)
  approximation <- checked(rlang::arg_match(approximation))
  run <- new_run(threads, BPPARAM, progress)
  if (!is.null(results)) {
    genes <- renamed_argument(results, genes, "results", "genes", run$call)
  }
  given <- results_for_coords(coords, genes, run$call)

  prepared <- prepare(x, given$coords, assay, from, sample_info, sample_id, settings, run)
  input <- prepared$input
  shared <- probabilities != "spatialde"
  if (!shared) {
    lengthscales <- lengthscales %||% "spatialde"
  }
  kernels <- kernel_table(kernels, lengthscales, input, run$call, by_model = TRUE)
  genes <- given$genes %||% test_before(prepared, approximation)
  chosen <- choose_genes(genes, input, "genes", run$call)
  fitter <- prepare_fitter(input, kernels, calibrated = FALSE, approximation, run, shared = shared)
  fits <- fit_genes(fitter, prepared, chosen$index)
  new_result(
    new_models(chosen, fits, fitter$kernels, probabilities),
    "patina_models",
    input,
    kernels = fitter$description,
    approximation = approximation,
    normalization = settings$normalization,
    probabilities = probabilities
  )
}

#' The table of a model search
#' @noRd
new_models <- function(chosen, fits, kernels, probabilities) {
  families <- unique(kernels$model)
  shares <- matrix(fits$probabilities, ncol = length(families), byrow = TRUE)
  if (probabilities == "spatialde") {
    shares <- shares^2 / rowSums(shares^2)
  }
  shown <- union(kernel_models[kernel_families$search], families)
  shares <- lapply(shown, function(model) {
    if (model %in% families) shares[, match(model, families)] else rep(NA_real_, nrow(shares))
  })
  names(shares) <- paste0("prob_", shown)
  tibble::tibble(
    gene = chosen$genes,
    model = kernels$model[fits$kernel],
    lengthscale = kernels$lengthscale[fits$kernel],
    loglik = fits$loglik,
    bic = fits$bic,
    fsv = fits$fsv,
    !!!shares,
    pval = chosen$results[["pval"]] %||% NA_real_,
    qval = chosen$results[["qval"]] %||% NA_real_
  )
}
