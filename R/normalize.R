# From counts to what is tested: NaiveDE's transformation, and Pearson residuals.

#' Stabilise the variance of counts
#'
#' Anscombe's approximation for negative binomial counts whose variance is \eqn{\mu + \phi \mu^2}:
#' \eqn{\log(x + 1 / (2 \phi))}, with one \eqn{\phi} for all genes, fitted by least squares to the
#' genes' means and variances. The first step of SpatialDE's preparation; [regress_out()] is the
#' second.
#'
#' The least squares fit has a closed form, \eqn{\phi = \sum m_g^2 (v_g - m_g) / \sum m_g^4}, with \eqn{m_g}
#' the mean and \eqn{v_g} the variance (denominator n - 1) of gene g. Genes with values that are not finite,
#' and genes with the same value everywhere, are left out of the fit.
#'
#' @param counts Whole numbers, 0 or more: a data.frame with spots in rows and genes in columns; or
#'   genes in rows and spots in columns: a matrix, sparse Matrix, DelayedMatrix or the assay
#'   "counts" of a SummarizedExperiment.
#' @returns Stabilised values, on the scale of a natural logarithm. For a data.frame a data.frame
#'   with the same names, else a dense matrix with the same names.
#' @section Errors:
#' `patina_error_counts` if values are negative or not whole, with the names of the genes;
#' `patina_error_phi` if the counts are not overdispersed, so that \eqn{\phi} is not positive.
#' @references
#' F. J. Anscombe (1948). The transformation of Poisson, binomial and negative-binomial data.
#' *Biometrika* 35. \doi{10.1093/biomet/35.3-4.246}
#' @seealso [spatial_test()], which does both steps when asked for `normalization = "anscombe"`, and says
#'   what speaks against them where depth varies over the tissue.
#' @export
#' @examples
#' tissue <- example_tissue()
#' stable <- stabilize(tissue$counts)
#' round(stable[1:3, 1:4], 2)
stabilize <- function(counts) {
  call <- rlang::current_env()
  expression <- read_expression(counts, arg = "counts", call = call)
  summary <- summarize_counts(expression, call, arg = "counts")
  if (!any(summary$testable)) {
    abort_patina(
      "{.arg counts} has no gene with different, finite values in at least two spots.",
      class = "counts",
      call = call
    )
  }
  phi <- positive_phi(summary$phi, call)
  values <- input_block(expression, seq_along(expression$genes), call)
  like_input(log(values + 1 / (2 * phi)), counts, expression)
}

#' What to do to a block of genes before the test
#'
#' One pass over the input finds what all genes share (totals, phi); genes that cannot be tested
#' have no part in it. A normalisation of counts is a function `fit_*()` of the input, the summary of
#' its counts and the settings, which gives a normalizer.
#'
#' @param input A `patina_input`.
#' @param settings From `new_settings()`: `normalization`, `covariates`, `size_factors`, `depth`.
#' @param run From `new_run()`.
#' @returns A function of a raw block (spots × genes, double), the genes' indices and a number of threads,
#'   that gives the normalised block. Each gene's values are the same, to the bit, in any block. Attributes
#'   (`NULL` for "none") `phi`, the overdispersion that was used; `found`, the size factors; and for "pearson"
#'   `spread` of the genes' exponents.
#' @noRd
new_normalizer <- function(input, settings = new_settings(), run = new_run(1L)) {
  call <- run$call
  if (settings$normalization == "none") {
    if (is.null(settings$covariates)) {
      return(no_normalizer)
    }
    design <- covariate_matrix(settings$covariates, input$samples, input$spots, call)
    return(regression_normalizer(new_regression(design, input$sample_id)))
  }

  tick <- progress_bar(run$progress, "Summing counts", length(input$genes))
  summary <- summarize_counts(input, call, tick = tick)
  if (!any(summary$testable)) {
    # nothing will be tested: there is nothing to fit to
    return(no_normalizer)
  }
  report_counts(input, summary)
  fit <- switch(settings$normalization, pearson = fit_pearson, anscombe = fit_anscombe)
  fit(input, summary, settings, run)
}

#' What was asked of the normalisation
#'
#' @param depth "auto", "shrunk", "regression" or "offset"; see `spatial_test()`.
#' @noRd
new_settings <- function(
  normalization = c("pearson", "anscombe", "none"),
  covariates = NULL,
  size_factors = NULL,
  depth = c("auto", "shrunk", "regression", "offset"),
  call = rlang::caller_env()
) {
  normalization <- checked(rlang::arg_match(normalization, error_call = call))
  depth <- checked(rlang::arg_match(depth, error_call = call))
  if (normalization == "none" && !(is.null(size_factors) && depth == "auto")) {
    abort_patina(
      c(
        "{.arg size_factors} and {.arg depth} are for counts, and {.arg normalization} is {.val none}.",
        i = "Leave them out, or use {.code normalization = \"pearson\"}."
      ),
      class = "argument",
      call = call
    )
  }
  if (normalization == "anscombe" && depth %in% c("shrunk", "offset")) {
    abort_patina(
      c(
        "{.arg depth} can be {.val {depth}} with {.code normalization = \"pearson\"} only.",
        i = "{.code normalization = \"anscombe\"} always regresses on depth, or on the {.arg covariates}."
      ),
      class = "argument",
      call = call
    )
  }
  if (depth == "auto") {
    depth <- if (normalization == "pearson" && is.null(covariates)) "shrunk" else "covariates"
  }
  list(normalization = normalization, covariates = covariates, size_factors = size_factors, depth = depth)
}

#' The covariates of counts; depth is one of them unless others are given or it is to be left out
#'
#' @param totals Total counts, for formulas.
#' @param size Size factors, for the regression on depth.
#' @noRd
count_design <- function(input, settings, totals, size, call) {
  covariates <- settings$covariates
  design <- matrix(0, input$n_spots, 0L)
  if (!is.null(covariates)) {
    samples <- input$samples
    samples$total_counts <- samples[["total_counts"]] %||% totals
    design <- covariate_matrix(covariates, samples, input$spots, call)
  }
  if (regresses_on_depth(settings)) {
    design <- cbind(log(size), design)
  }
  design
}

regresses_on_depth <- function(settings) {
  settings$depth == "regression" || (settings$depth == "covariates" && is.null(settings$covariates))
}

fit_anscombe <- function(input, summary, settings, run) {
  if (!is.null(settings$size_factors)) {
    found <- find_size_factors(input, summary, new_patches(input, run$call), settings$size_factors, run)
  } else {
    found <- list(kind = "total", size = summary$totals)
    if (regresses_on_depth(settings)) {
      check_totals(found$size, input$spots, run$call)
    }
  }
  design <- count_design(input, settings, summary$totals, found$size, run$call)
  regress <- new_regression(design, input$sample_id)
  normalizer <- anscombe_normalizer(1 / (2 * positive_phi(summary$phi, run$call)), regress)
  structure(normalizer, phi = summary$phi, found = found[c("kind", "size")])
}

# A gene with fewer counts than this has them in one or two spots: those may be rare places, but tell no
# variances.
least_counts <- 3

#' Residuals beside depth
#'
#' The genes' slopes on depth are as free as they are found to vary over genes ("shrunk"), or none is taken
#' out but what the covariates, depth among them or not, explain.
#' @noRd
fit_pearson <- function(input, summary, settings, run) {
  patches <- new_patches(input, run$call)
  found <- find_size_factors(input, summary, patches, settings$size_factors, run)
  sample <- sample_codes(input)
  bounded <- \(x) pmax(x, depth_floor * stats::ave(x, sample, FUN = stats::median))
  design <- count_design(input, settings, bounded(summary$totals), bounded(found$size), run$call)
  rates <- expected_rates(input, summary, found$size)
  if (settings$depth == "shrunk") {
    basis <- regression_basis(design, input$sample_id)$basis
    depth <- new_depth(input, patches, found$size, found$phi, found, covariates = basis)
    spread <- find_spread(input, summary, depth, rates, found$weights, run)
    regress <- identity
  } else {
    depth <- new_depth(input, patches, found$size, found$phi, found)
    spread <- list(tau = 0, rough_is_known = FALSE)
    regress <- new_regression(design, input$sample_id)
  }
  structure(
    depth_normalizer(depth, rates, found$weights, spread, regress),
    phi = found$phi,
    found = found[c("kind", "size", "anchors", "share")],
    spread = spread,
    few = colSums(summary$sums) < least_counts
  )
}

# Normalizers are sent to other processes: each holds what it needs and nothing else. The attribute
# `combinations` says how it makes combinations of functions, see combination_parts().

no_normalizer <- structure(
  function(block, genes, threads = 1L) block,
  combinations = function(groups) regressed_combinations(plain_zeros(), identity, groups)
)

regression_normalizer <- function(regress) {
  force(regress)
  structure(
    function(block, genes, threads = 1L) regress(block),
    combinations = function(groups) regressed_combinations(plain_zeros(), regress, groups)
  )
}

anscombe_normalizer <- function(offset, regress) {
  force(offset)
  force(regress)
  structure(
    function(block, genes, threads = 1L) regress(log(block + offset)),
    combinations = function(groups) {
      # all but the same constant, which centring takes off
      zeros <- list(entries = \(raw, genes) log(raw@x + offset) - log(offset))
      regressed_combinations(zeros, regress, groups)
    }
  )
}

#' A block of all genes in the shape of the input it came from
#' @noRd
like_input <- function(block, x, expression) {
  if (is.data.frame(x)) {
    columns <- lapply(seq_len(ncol(block)), \(j) block[, j])
    attributes(columns) <- attributes(x)
    return(columns)
  }
  matrix(
    t(block),
    ncol(block),
    nrow(block),
    dimnames = if (!is.null(dimnames(x))) dimnames(x)
  )
}
