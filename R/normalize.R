# From counts to what is tested: NaiveDE's two steps, and Pearson residuals.

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
  expression <- read_expression(counts, call = call)
  summary <- summarize_counts(expression, call = call)
  if (!any(summary$testable)) {
    abort_patina(
      "{.arg counts} has no gene with different, finite values in at least two spots.",
      class = "counts",
      call = call
    )
  }
  phi <- positive_phi(summary$phi, call)
  values <- input_block(expression, seq_along(expression$genes))
  like_input(log(values + 1 / (2 * phi)), counts, expression)
}

#' Regress covariates out of expression
#'
#' For each gene a linear model on the covariates, with intercept; only the covariates' part is
#' subtracted, the intercept stays. The second step of SpatialDE's preparation, usually with
#' `~ log(total_counts)` after [stabilize()].
#'
#' Factors are coded so that their levels sum to zero: what stays is the mean over the levels.
#' Covariates that others determine are dropped.
#'
#' @param expr Expression, as in [stabilize()], on a scale on which covariates act linearly.
#' @param sample_info A data.frame with one row for each spot; matched by row names if both have
#'   names.
#' @param formula A formula over the columns of `sample_info`, such as `~ log(total_counts)`.
#' @returns Residuals plus intercept, of the shape and with the names of `expr`, dense. A gene with
#'   values that are not finite stays so and leaves others alone.
#' @section Errors:
#' `patina_error_covariates` if the formula cannot be evaluated, or has values that are not finite
#' (with the names of the spots); `patina_error_names` if spots do not match.
#' @export
#' @examples
#' tissue <- example_tissue()
#' residuals <- tissue$counts |>
#'   stabilize() |>
#'   regress_out(tissue$sample_info, ~ log(total_counts))
regress_out <- function(expr, sample_info, formula) {
  call <- rlang::current_env()
  expression <- read_expression(expr, call = call)
  samples <- as_samples(sample_info, expression$spots, expression$n_spots, call)
  spots <- expression$spots %||% sprintf("spot%d", seq_len(expression$n_spots))
  covariates <- covariate_matrix(formula, samples, spots, call, arg = "formula")
  regress <- new_regression(covariates)
  values <- input_block(expression, seq_along(expression$genes))
  like_input(regress(values), expr, expression)
}

#' What to do to a block of genes before the test
#'
#' One pass over the input finds what all genes share (totals, phi); genes that cannot be tested
#' have no part in it.
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
  normalization <- rlang::arg_match(normalization, error_call = call)
  sample_id <- input$sample_id

  if (normalization == "none") {
    if (is.null(covariates)) {
      return(no_normalizer)
    }
    design <- covariate_matrix(covariates, input$samples, input$spots, call)
    return(regression_normalizer(new_regression(design, sample_id)))
  }

  summary <- summarize_counts(input, call)
  if (!any(summary$testable)) {
    # nothing will be tested: there is nothing to fit to
    return(no_normalizer)
  }
  totals <- summary$totals
  samples <- input$samples
  if (is.null(covariates) || normalization == "pearson") {
    check_totals(totals, input$spots, call)
  }
  if (is.null(covariates)) {
    design <- cbind(log(totals))
  } else {
    samples$total_counts <- samples[["total_counts"]] %||% totals
    design <- covariate_matrix(covariates, samples, input$spots, call)
  }
  regress <- new_regression(design, sample_id)

  phi <- summary$phi
  normalizer <- if (normalization == "anscombe") {
    anscombe_normalizer(1 / (2 * positive_phi(phi, call)), regress)
  } else {
    # The fit is to var = mean + (phi + depth + phi depth) mean^2, and here depth has its own part in
    # the expected counts. Counts that are not overdispersed get a Poisson's residuals.
    phi <- max((phi - summary$depth) / (1 + summary$depth), 0)
    groups <- as.integer(sample_id %||% rep(1L, input$n_spots))
    # a sample's own share for each gene
    rates <- summary$sums / as.vector(rowsum(totals, groups))
    pearson_normalizer(totals, rates, groups, phi, regress)
  }
  structure(normalizer, phi = phi, totals = totals)
}

# Normalizers are sent to other processes: each holds what it needs and nothing else.

no_normalizer <- function(block, genes) block

regression_normalizer <- function(regress) {
  force(regress)
  function(block, genes) regress(block)
}

anscombe_normalizer <- function(offset, regress) {
  force(offset)
  force(regress)
  function(block, genes) regress(log(block + offset))
}

pearson_normalizer <- function(totals, rates, groups, phi, regress) {
  force(totals)
  force(rates)
  force(groups)
  force(phi)
  force(regress)
  function(block, genes) {
    regress(pearson_residuals(block, totals, rates[groups, genes, drop = FALSE], phi))
  }
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

#' Which genes of a raw block can be tested
#'
#' @param block Spots × genes: a double matrix or a dgCMatrix.
#' @returns One of "ok", "non-finite", "all-zero" and "constant" for each gene.
#' @noRd
gene_status <- function(block) {
  status <- rep("ok", ncol(block))
  if (methods::is(block, "sparseMatrix")) {
    # a gene without a single zero is looked at as a dense one; any other is constant if it is zero
    entries <- block
    entries@x <- as.double(!is.finite(block@x))
    non_finite <- Matrix::colSums(entries) > 0
    entries@x <- as.double(is.na(block@x) | block@x != 0)
    non_zero <- Matrix::colSums(entries)
    full <- which(non_zero == nrow(block))
    status[full] <- gene_status(as.matrix(block[, full, drop = FALSE]))
    status[non_zero == 0] <- "all-zero"
  } else {
    same <- colSums(block != rep(block[1L, ], each = nrow(block)), na.rm = TRUE) == 0
    status[same] <- ifelse(block[1L, same] == 0, "all-zero", "constant")
    sums <- colSums(block)
    non_finite <- !is.finite(sums)
    # finite values may have a sum that is not
    non_finite[non_finite] <- colSums(!is.finite(block[, non_finite, drop = FALSE])) > 0
  }
  status[non_finite] <- "non-finite"
  status
}

# Counts ----------------------------------------------------------------------------------------

#' One pass over counts
#'
#' @param input A `patina_input` or an expression.
#' @returns A list: `testable` (by gene), `totals` (by spot, over testable genes), `sums` (samples ×
#'   genes), `phi`, the overdispersion, fitted within samples, and `depth`, the squared coefficient
#'   of variation of their totals, with the same weights. Sums of whole numbers are exact, so that
#'   all of it is the same however the input is stored and cut into blocks.
#' @noRd
summarize_counts <- function(input, call = rlang::caller_env()) {
  rows <- split(seq_len(input$n_spots), input$sample_id %||% rep(1L, input$n_spots))
  n_genes <- length(input$genes)
  testable <- logical(n_genes)
  totals <- numeric(input$n_spots)
  sums <- matrix(0, length(rows), n_genes)
  squares <- sums
  bad <- integer()
  for (genes in gene_blocks(input)) {
    block <- input_sparse_block(input, genes) %||% input_block(input, genes)
    bad <- c(bad, genes[not_counts(block)])
    ok <- gene_status(block) == "ok"
    testable[genes] <- ok
    totals <- totals + Matrix::rowSums(block[, ok, drop = FALSE])
    for (i in seq_along(rows)) {
      part <- if (length(rows) == 1L) block else block[rows[[i]], , drop = FALSE]
      sums[i, genes] <- Matrix::colSums(part)
      squares[i, genes] <- Matrix::colSums(part^2)
    }
  }
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "Counts must be whole numbers of at least 0: {length(bad)} gene{?s} {?has/have} negative or
          fractional values, {.val {first_few(input$genes[bad])}}.",
        i = "If the values are on the scale to be tested already, use
          {.code normalization = \"none\"}."
      ),
      class = "counts",
      call = call
    )
  }
  n <- lengths(rows)
  means <- sums[, testable, drop = FALSE] / n
  variances <- (squares[, testable, drop = FALSE] - n * means^2) / (n - 1)
  variation <- vapply(rows, \(row) stats::var(totals[row]) / mean(totals[row])^2, numeric(1L))
  list(
    testable = testable,
    totals = totals,
    sums = sums,
    phi = sum(means^2 * (variances - means)) / sum(means^4),
    depth = sum(variation * rowSums(means^4)) / sum(means^4)
  )
}

#' Which columns have negative or fractional values
#' @noRd
not_counts <- function(block) {
  values <- if (is.matrix(block)) block else block@x
  bad <- is.finite(values) & (values < 0 | values != trunc(values))
  if (!any(bad)) {
    return(integer())
  }
  columns <- if (is.matrix(block)) col(block) else rep(seq_len(ncol(block)), diff(block@p))
  unique(columns[bad])
}

positive_phi <- function(phi, call) {
  if (!is.finite(phi) || phi <= 0) {
    abort_patina(
      c(
        "The counts are not overdispersed: the fit of variance = mean + phi mean\u00b2 gives phi =
          {signif(phi, 3)}, and the transformation needs phi > 0.",
        i = "phi is shared by all genes: give all of them, not a few.",
        i = "Or use {.code normalization = \"pearson\"}, which needs no overdispersion; or transform
          the counts yourself ({.code log1p(x)}) and use {.code normalization = \"none\"}."
      ),
      class = "phi",
      call = call
    )
  }
  phi
}

check_totals <- function(totals, spots, call) {
  empty <- which(totals == 0)
  if (length(empty) > 0L) {
    abort_patina(
      c(
        "{length(empty)} spot{?s} {?has/have} no counts: {.val {first_few(spots[empty])}}.",
        i = "The logarithm of the total is regressed out: remove these spots from {.arg x} and
          {.arg coords}.",
        i = "Totals are taken over the genes of {.arg x}: give all genes, not a few."
      ),
      class = "empty_spots",
      call = call
    )
  }
}

# Regression ------------------------------------------------------------------------------------

#' The columns of a formula, without intercept
#' @noRd
covariate_matrix <- function(formula, samples, spots, call, arg = "covariates") {
  if (!rlang::is_formula(formula, lhs = FALSE)) {
    abort_patina(
      "{.arg {arg}} must be a formula without left side, such as {.code ~ log(total_counts)}.",
      class = "argument",
      call = call
    )
  }
  design <- tryCatch(
    {
      frame <- stats::model.frame(
        formula,
        samples,
        na.action = stats::na.pass,
        drop.unused.levels = TRUE
      )
      terms <- stats::terms(frame)
      # factors are coded beside an intercept, whether the formula has one or not
      attr(terms, "intercept") <- 1L
      is_factor <- vapply(frame, \(column) is.factor(column) || is.character(column), logical(1L))
      contrasts <- rep(list("contr.sum"), sum(is_factor))
      names(contrasts) <- names(frame)[is_factor]
      stats::model.matrix(terms, frame, contrasts.arg = contrasts)
    },
    error = function(cnd) {
      abort_patina(
        c(
          "The formula {.code {rlang::as_label(formula)}} cannot be evaluated:
            {conditionMessage(cnd)}",
          i = if (ncol(samples) > 0L) {
            "The sample table has the columns {.field {first_few(names(samples), 10L)}}."
          } else {
            "Give the table of its variables as {.arg sample_info}."
          }
        ),
        class = "covariates",
        call = call
      )
    }
  )
  if (nrow(design) != length(spots)) {
    abort_patina(
      "{.code {rlang::as_label(formula)}} has {nrow(design)} value{?s} for {length(spots)} spots.",
      class = "covariates",
      call = call
    )
  }
  design <- design[, colnames(design) != "(Intercept)", drop = FALSE]
  bad <- which(rowSums(!is.finite(design)) > 0)
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "{.code {rlang::as_label(formula)}} is not finite for {length(bad)} spot{?s}:
          {.val {first_few(spots[bad])}}.",
        i = "Remove these spots, or choose another covariate."
      ),
      class = "covariates",
      call = call
    )
  }
  unname(design)
}

#' A linear model for every gene, of which the covariates' part is subtracted
#'
#' Covariates are made orthogonal to what is kept, and decomposed, once. A gene's coefficients come
#' from sums over its own values, not from a matrix product whose rounding depends on the block.
#'
#' @param covariates Spots × covariates.
#' @param sample_id Samples with a mean of their own, which is kept like the intercept.
#' @returns A function that maps a block (spots × genes) to its residuals plus intercept.
#' @noRd
new_regression <- function(covariates, sample_id = NULL) {
  kept <- if (is.null(sample_id)) {
    matrix(1, nrow(covariates))
  } else {
    outer(as.integer(sample_id), seq_len(nlevels(sample_id)), `==`) * 1
  }
  both <- qr(cbind(kept, covariates), tol = 1e-10)
  used <- both$pivot[seq_len(both$rank)] - ncol(kept)
  covariates <- covariates[, used[used > 0L], drop = FALSE]
  if (ncol(covariates) == 0L) {
    return(identity)
  }
  own <- qr(qr.resid(qr(kept), covariates), tol = 0)
  basis <- qr.Q(own)
  effects <- t(backsolve(qr.R(own), t(covariates[, own$pivot, drop = FALSE]), transpose = TRUE))
  subtract_effects(basis, effects)
}

subtract_effects <- function(basis, effects) {
  force(basis)
  force(effects)
  function(block) {
    coefficients <- lapply(seq_len(ncol(basis)), \(j) colSums(block * basis[, j]))
    for (j in seq_along(coefficients)) {
      block <- block - outer(effects[, j], coefficients[[j]])
    }
    block
  }
}

# Shapes ----------------------------------------------------------------------------------------

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
