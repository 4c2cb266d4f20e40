#' q-values of Storey and Tibshirani
#'
#' The share of true null hypotheses, pi0, is estimated from the p-values above 0.89 (SpatialDE's
#' interpolating spline over 0, 0.01, ..., 0.89 gives the same value), or taken as 1 for fewer than 100
#' p-values, which makes the q-values those of Benjamini and Hochberg.
#'
#' @param p p-values, between 0 and 1. `NA` stays `NA` and does not count.
#' @param pi0 Share of true null hypotheses, above 0 and at most 1; estimated by default.
#' @returns q-values in the order of `p`, with its names: the smallest false discovery rate at which each
#'   would be called. The attribute `pi0` has the share that was used.
#' @references
#' J. D. Storey, R. Tibshirani (2003). Statistical significance for genomewide studies. *PNAS* 100.
#' \doi{10.1073/pnas.1530509100}
#' @export
#' @examples
#' qvalues(c(0.001, 0.02, 0.4, NA, 0.9))
qvalues <- function(p, pi0 = NULL) {
  call <- rlang::current_env()
  if (!is.numeric(p) && !all(is.na(p))) {
    abort_patina(
      "{.arg p} must be numbers, not {.cls {class(p)}}.",
      class = "argument",
      call = call
    )
  }
  outside <- which(p < 0 | p > 1)
  if (length(outside) > 0L) {
    abort_patina(
      c(
        "{.arg p} must be between 0 and 1.",
        x = "{length(outside)} value{?s} {?is/are} not: {.val {first_few(p[outside])}}."
      ),
      class = "argument",
      call = call
    )
  }
  check_pi0(pi0, call)
  result <- call_rust(rust_qvalues, as.double(p), as.double(pi0 %||% NA), call = call)
  structure(result$q, names = names(p), pi0 = result$pi0)
}

#' @noRd
check_pi0 <- function(pi0, call = rlang::caller_env()) {
  if (!is.null(pi0)) {
    check_number(pi0, \(x) x > 0 && x <= 1, "above 0 and at most 1", call = call)
  }
}

# Fewer p-values than this do not tell the share of true null hypotheses well enough to use it, nor do fewer
# than this above the point at which it is read off.
least_for_pi0 <- 1000L
least_above <- 20L

#' The q-values of a test, and how they were made
#'
#' @param p p-values; `NA` where there is none.
#' @param pi0 The user's, or `NULL`.
#' @returns A list: `qval`, `method`, "Storey-Tibshirani", "Benjamini-Hochberg" (which is pi0 = 1) or "given
#'   pi0", and `pi0`.
#' @noRd
test_qvalues <- function(p, pval_method, pi0, call) {
  method <- if (!is.null(pi0)) {
    "given pi0"
  } else if (
    pval_method == "spatialde" ||
      (sum(!is.na(p)) >= least_for_pi0 && sum(p > 0.89, na.rm = TRUE) >= least_above)
  ) {
    "Storey-Tibshirani"
  } else {
    pi0 <- 1
    "Benjamini-Hochberg"
  }
  result <- call_rust(rust_qvalues, as.double(p), as.double(pi0 %||% NA), call = call)
  list(qval = result$q, method = method, pi0 = result$pi0)
}
