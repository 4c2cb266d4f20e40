# From counts to what is tested: NaiveDE's transformation, and Pearson residuals.

#' Stabilise the variance of counts
#'
#' Anscombe's approximation for negative binomial counts whose variance is \eqn{\mu + \phi \mu^2}:
#' \eqn{\log(x + 1 / (2 \phi))}, with one \eqn{\phi} for all genes, fitted by least squares to the
#' genes' means and variances. The first step of SpatialDE's preparation; [regress_out()] is the
#' second.
#'
#' The least squares fit has a closed form,
#' \eqn{\phi = \sum m_g^2 (v_g - m_g) / \sum m_g^4}, with \eqn{m_g} the mean and \eqn{v_g} the
#' variance (denominator n - 1) of gene g. Genes with values that are not finite, and genes with
#' the same value everywhere, are left out of the fit.
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
#' its counts and the regression, which gives a normalizer.
#'
#' @param input A `patina_input`.
#' @param normalization "pearson", "anscombe" or "none"; see `spatial_test()`.
#' @param covariates A formula over `input$samples`, in which `total_counts` is the sum of a spot's
#'   counts unless the table has such a column; `NULL` means `~ log(total_counts)`, of the sums, for
#'   counts, and nothing for "none".
#' @returns A function of a raw block (spots × genes, double) and the genes' indices, that gives the
#'   normalised block. Each gene's values are the same, to the bit, in any block. Attributes `phi`,
#'   the overdispersion that was used, and `totals` (`NULL` for "none").
#' @noRd
new_normalizer <- function(
  input,
  normalization = c("pearson", "anscombe", "none"),
  covariates = NULL,
  call = rlang::caller_env()
) {
  normalization <- checked(rlang::arg_match(normalization, error_call = call))
  if (normalization == "none") {
    if (is.null(covariates)) {
      return(no_normalizer)
    }
    design <- covariate_matrix(covariates, input$samples, input$spots, call)
    return(regression_normalizer(new_regression(design, input$sample_id)))
  }

  summary <- summarize_counts(input, call)
  if (!any(summary$testable)) {
    # nothing will be tested: there is nothing to fit to
    return(no_normalizer)
  }
  if (is.null(covariates) || normalization == "pearson") {
    check_totals(summary$totals, input$spots, call)
  }
  design <- count_design(covariates, input, summary$totals, call)
  regress <- new_regression(design, input$sample_id)
  fit <- switch(normalization, pearson = fit_pearson, anscombe = fit_anscombe)
  fit(input, summary, regress, call)
}

#' The covariates of counts
#' @noRd
count_design <- function(covariates, input, totals, call) {
  if (is.null(covariates)) {
    return(cbind(log(totals)))
  }
  samples <- input$samples
  samples$total_counts <- samples[["total_counts"]] %||% totals
  covariate_matrix(covariates, samples, input$spots, call)
}

fit_anscombe <- function(input, summary, regress, call) {
  normalizer <- anscombe_normalizer(1 / (2 * positive_phi(summary$phi, call)), regress)
  structure(normalizer, phi = summary$phi, totals = summary$totals)
}

#' The overdispersion beside depth, and each sample's own share of each gene
#'
#' The fit is to var = mean + (phi + depth + phi depth) mean^2, and here depth has its own part in the
#' expected counts. Counts that are not overdispersed get a Poisson's residuals.
#' @noRd
fit_pearson <- function(input, summary, regress, call) {
  phi <- max((summary$phi - summary$depth) / (1 + summary$depth), 0)
  groups <- as.integer(input$sample_id %||% rep(1L, input$n_spots))
  rates <- summary$sums / as.vector(rowsum(summary$totals, groups))
  normalizer <- pearson_normalizer(summary$totals, rates, groups, phi, regress)
  structure(normalizer, phi = phi, totals = summary$totals)
}

# Normalizers are sent to other processes: each holds what it needs and nothing else. The attribute
# `combinations` says how it makes combinations of functions, see combination_parts().

no_normalizer <- structure(
  function(block, genes) block,
  combinations = function(groups) regressed_combinations(plain_zeros(), identity, groups)
)

regression_normalizer <- function(regress) {
  force(regress)
  structure(
    function(block, genes) regress(block),
    combinations = function(groups) regressed_combinations(plain_zeros(), regress, groups)
  )
}

anscombe_normalizer <- function(offset, regress) {
  force(offset)
  force(regress)
  structure(
    function(block, genes) regress(log(block + offset)),
    combinations = function(groups) {
      # all but the same constant, which centring takes off
      zeros <- list(entries = \(raw, genes) log(raw@x + offset) - log(offset))
      regressed_combinations(zeros, regress, groups)
    }
  )
}

pearson_normalizer <- function(totals, rates, groups, phi, regress) {
  force(totals)
  force(rates)
  force(groups)
  force(phi)
  force(regress)
  structure(
    function(block, genes) {
      regress(pearson_residuals(block, totals, rates[groups, genes, drop = FALSE], phi))
    },
    combinations = function(groups) {
      regressed_combinations(pearson_zeros(totals, rates, groups, phi), regress, groups)
    }
  )
}

#' Pearson residuals of negative binomial counts, with depth as an offset
#'
#' @param block Counts, spots × genes.
#' @param totals Total count of each spot.
#' @param rates Expected share of each gene in a spot's total, spots × genes.
#' @param phi Overdispersion: the variance is `mu + phi mu^2`.
#' @returns Residuals within `sqrt(n)` of 0; 0 where nothing is expected.
#' @noRd
pearson_residuals <- function(block, totals, rates, phi) {
  mu <- totals * rates
  residuals <- (block - mu) / sqrt(mu * (1 + phi * mu))
  residuals[mu == 0] <- 0
  limit <- sqrt(nrow(block))
  residuals[residuals > limit] <- limit
  residuals[residuals < -limit] <- -limit
  residuals
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
