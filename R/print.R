# How results print: the header above a tibble's rows.

#' @importFrom tibble tbl_sum
#' @method tbl_sum patina_test
#' @export
tbl_sum.patina_test <- function(x, ...) {
  # verbs such as dplyr's count() keep the class of what is no test any more
  if (is.null(x[["gene"]])) {
    return(NextMethod())
  }
  c("A spatial test" = table_size(x), run_summary(x), hits_summary(x))
}

#' @method tbl_sum patina_models
#' @export
tbl_sum.patina_models <- function(x, ...) {
  if (is.null(x[["gene"]])) {
    return(NextMethod())
  }
  c("A model search" = table_size(x), run_summary(x), models_summary(x))
}

table_size <- function(x) {
  paste(count_text(nrow(x)), times_sign(), ncol(x))
}

times_sign <- function() {
  if (isTRUE(l10n_info()[["UTF-8"]])) "\u00d7" else "x"
}

#' A number as people read it, whatever their decimal mark is
#' @noRd
count_text <- function(n) {
  format(n, big.mark = ",", decimal.mark = ".", scientific = FALSE, trim = TRUE)
}

#' How the result was made, from its attribute; nothing if that was lost on the way
#' @noRd
run_summary <- function(x) {
  run <- attr(x, "patina")
  c(
    spots = if (!is.null(run$n)) {
      d <- length(run$coords)
      paste0(
        count_text(run$n),
        if (d > 0L) sprintf(" in %d-D", d),
        if (isTRUE(run$samples > 1L)) sprintf(", %d samples", run$samples)
      )
    },
    kernels = if (is.data.frame(run$kernels)) kernels_summary(run$kernels),
    method = if (!is.null(run$normalization) || !is.null(run$pval_method)) {
      paste(
        c(
          if (!is.null(run$normalization)) {
            paste("normalization", run$normalization)
          },
          if (!is.null(run$pval_method)) paste("p-values", run$pval_method)
        ),
        collapse = ", "
      )
    },
    depth = if (!is.null(run$depth$fsv)) depth_summary(run$depth),
    `q-values` = if (!is.null(run$qvalues$method)) {
      paste0(run$qvalues$method, if (run$qvalues$pi0 < 1) sprintf(", pi0 = %.2f", run$qvalues$pi0))
    }
  )
}

#' Such as "robust size factors, fsv 0.42, slopes shrunk (tau = 0.12)"
#' @noRd
depth_summary <- function(depth) {
  paste0(
    switch(
      depth$size_factors$kind,
      given = "given size factors",
      total = "total counts",
      none = "no size factors",
      total_counts = "total counts of all genes",
      sizeFactor = "the object's size factors",
      paste(depth$size_factors$kind, "size factors")
    ),
    sprintf(", fsv %.2f", depth$fsv),
    switch(
      depth$treatment,
      shrunk = sprintf(", slopes shrunk (tau = %.2f)", depth$tau),
      regression = ", regressed out",
      offset = ", offset only",
      covariates = ", offset and covariates"
    )
  )
}

#' Such as "10 SE (lengthscales 0.4 to 61), 1 linear"
#' @noRd
kernels_summary <- function(kernels) {
  models <- unique(kernels$model)
  one <- vapply(
    models,
    function(model) {
      count <- paste(sum(kernels$model == model), model)
      lengths <- kernels$lengthscale[kernels$model == model]
      lengths <- lengths[is.finite(lengths)]
      if (length(lengths) < 2L) {
        return(count)
      }
      what <- if (model == "PER") "periods" else "lengthscales"
      ends <- vapply(signif(range(lengths), 3L), format, character(1L))
      sprintf("%s (%s %s to %s)", count, what, ends[[1L]], ends[[2L]])
    },
    character(1L)
  )
  engines <- setdiff(kernels$engine, "dense")
  paste0(
    paste(one, collapse = ", "),
    if (length(engines) > 0L) {
      sprintf("; %d approximated by %s", sum(kernels$engine %in% engines), paste(engines, collapse = ", "))
    }
  )
}

hits_summary <- function(x) {
  status <- x[["status"]] %||% "ok"
  unknown <- sum(status %in% "not converged")
  few <- sum(status %in% "few counts")
  untested <- sum(status != "ok", na.rm = TRUE) - unknown - few
  text <- c(
    if (is.numeric(x[["qval"]])) {
      sprintf("%s with qval < 0.05", count_text(sum(x$qval < 0.05, na.rm = TRUE)))
    },
    if (untested > 0L) {
      sprintf("%s not tested (see status)", count_text(untested))
    },
    if (unknown > 0L) {
      sprintf("%s not converged", count_text(unknown))
    },
    if (few > 0L) {
      sprintf("%s with few counts", count_text(few))
    }
  )
  if (length(text) > 0L) c(genes = paste(text, collapse = ", "))
}

models_summary <- function(x) {
  if (is.null(x[["model"]]) || nrow(x) == 0L) {
    return(NULL)
  }
  count <- sort(table(x$model), decreasing = TRUE)
  c(genes = paste(count, names(count), collapse = ", "))
}
