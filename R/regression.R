# Covariates, and what they explain of a gene.

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
  expression <- read_expression(expr, arg = "expr", call = call)
  samples <- as_samples(sample_info, expression$spots, expression$n_spots, call, x_arg = "expr")
  spots <- expression$spots %||% sprintf("spot%d", seq_len(expression$n_spots))
  covariates <- covariate_matrix(formula, samples, spots, call, arg = "formula")
  regress <- new_regression(covariates)
  values <- input_block(expression, seq_along(expression$genes), call)
  like_input(regress(values), expr, expression)
}

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
      check_levels(frame, arg, call)
      terms <- stats::terms(frame)
      if (!is.null(attr(terms, "offset"))) {
        abort_patina(
          c(
            "{.arg {arg}} has an {.code offset()}, which takes no part in a regression of all genes.",
            i = "Give what spots yield as {.arg size_factors}."
          ),
          class = "covariates",
          call = call
        )
      }
      # factors are coded beside an intercept, whether the formula has one or not
      attr(terms, "intercept") <- 1L
      is_factor <- vapply(frame, \(column) is.factor(column) || is.character(column), logical(1L))
      contrasts <- rep(list("contr.sum"), sum(is_factor))
      names(contrasts) <- names(frame)[is_factor]
      stats::model.matrix(terms, frame, contrasts.arg = contrasts)
    },
    error = function(cnd) {
      if (inherits(cnd, "patina_error")) {
        rlang::cnd_signal(cnd)
      }
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

#' A factor that names spots would leave nothing to test, one of a single level has nothing to say
#' @noRd
check_levels <- function(frame, arg, call) {
  levels <- vapply(frame, \(column) if (is.numeric(column)) 0L else length(unique(column)), 0L)
  one <- which(levels == 1L)
  if (length(one) > 0L) {
    abort_patina(
      c(
        "{.field {names(frame)[one[[1L]]]}} in {.arg {arg}} is the same at all {nrow(frame)} spots.",
        i = "Leave it out."
      ),
      class = "covariates",
      call = call
    )
  }
  many <- which(levels > nrow(frame) / 2)
  if (length(many) > 0L) {
    abort_patina(
      c(
        "{.field {names(frame)[many[[1L]]]}} in {.arg {arg}} has {levels[many[[1L]]]} levels for {nrow(frame)}
          spots, which leaves nothing to test.",
        i = "Does it name spots? A factor has far fewer levels than spots; numbers are to be numeric."
      ),
      class = "covariates",
      call = call
    )
  }
}

#' A linear model for every gene, of which the covariates' part is subtracted
#'
#' A gene's coefficients come from sums over its own values, not from a matrix product whose rounding
#' depends on the block.
#'
#' @param covariates Spots × covariates.
#' @param sample_id Samples with a mean of their own, which is kept like the intercept.
#' @returns A function that maps a block (spots × genes) to its residuals plus intercept. If some genes are
#'   nothing but the covariates' part, the attribute `explained` says which.
#' @noRd
new_regression <- function(covariates, sample_id = NULL) {
  parts <- regression_basis(covariates, sample_id)
  if (ncol(parts$basis) == 0L) identity else do.call(subtract_effects, parts)
}

#' Covariates, made orthogonal to what is kept, and decomposed
#'
#' @inheritParams new_regression
#' @returns A list: `basis`, orthonormal columns orthogonal to the samples' means; `effects`, the covariates
#'   that belong to them; and what `subtract_effects()` needs besides. Covariates that others determine are
#'   left out.
#' @noRd
regression_basis <- function(covariates, sample_id = NULL) {
  kept <- if (is.null(sample_id)) {
    matrix(1, nrow(covariates))
  } else {
    outer(as.integer(sample_id), seq_len(nlevels(sample_id)), `==`) * 1
  }
  both <- qr(cbind(kept, covariates), tol = 1e-10)
  used <- both$pivot[seq_len(both$rank)] - ncol(kept)
  covariates <- covariates[, used[used > 0L], drop = FALSE]
  if (ncol(covariates) == 0L) {
    return(list(basis = covariates, effects = covariates))
  }
  probe <- utils::head(which(kept[, 1L] == 1), 5L)
  kept <- qr(kept)
  own <- qr(qr.resid(kept, covariates), tol = 0)
  list(
    basis = qr.Q(own),
    effects = t(backsolve(qr.R(own), t(covariates[, own$pivot, drop = FALSE]), transpose = TRUE)),
    kept = kept,
    probe = probe
  )
}

subtract_effects <- function(basis, effects, kept, probe) {
  force(basis)
  force(effects)
  force(kept)
  force(probe)
  function(block) {
    coefficients <- lapply(seq_len(ncol(basis)), \(j) colSums(block * basis[, j]))
    for (j in seq_along(coefficients)) {
      block <- block - outer(effects[, j], coefficients[[j]])
    }
    explained <- find_explained(block, sqrt(Reduce(`+`, lapply(coefficients, `^`, 2))), kept, probe)
    if (any(explained)) {
      attr(block, "explained") <- explained
    }
    block
  }
}

#' Which genes' residuals are rounding errors about what is kept
#'
#' @param residuals Spots × genes, with what is kept.
#' @param effect Norm of the part that was subtracted from each gene.
#' @param kept Decomposition of what is kept: the intercept, or the samples.
#' @param probe A few spots of one sample, which share their mean.
#' @noRd
find_explained <- function(residuals, effect, kept, probe) {
  limit <- 1e-10 * effect / sqrt(nrow(residuals)) + 1e-13 * abs(residuals[probe[1L], ])
  # hardly any other gene is the same in all of the probe: no need to look at all spots of every gene
  candidates <- seq_len(ncol(residuals))
  for (row in probe[-1L]) {
    difference <- abs(residuals[row, candidates] - residuals[probe[1L], candidates])
    candidates <- candidates[which(difference <= 2 * limit[candidates])]
  }
  explained <- logical(ncol(residuals))
  if (length(candidates) > 0L) {
    left <- abs(qr.resid(kept, residuals[, candidates, drop = FALSE]))
    explained[candidates] <- colSums(left > rep(limit[candidates], each = nrow(left))) == 0
  }
  explained
}
