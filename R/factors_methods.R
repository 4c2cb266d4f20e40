# What can be done with spatial factors: print, predict.

#' @export
print.patina_factors <- function(x, ...) {
  found <- ncol(x$loadings)
  cli::cat_line(sprintf(
    "<patina_factors> %d factor%s of %d gene%s at %d spots",
    found,
    if (found == 1L) "" else "s",
    nrow(x$loadings),
    if (nrow(x$loadings) == 1L) "" else "s",
    nrow(x$factors)
  ))
  if (isFALSE(x$supported)) {
    cli::cat_line(sprintf(
      "Not supported: left-out spots are predicted no better than by the genes' means (tried up to %d)",
      max(x$held_out$n_factors)
    ))
  } else if (!is.null(x$held_out)) {
    cli::cat_line(sprintf(
      "%s %% of the variance predicted at left-out spots (tried up to %d factors)",
      format(round(100 * x$held_out$r_squared[x$held_out$n_factors == found], 1)),
      max(x$held_out$n_factors)
    ))
  }
  cli::cat_line("     variance  lengthscale  smooth  genes")
  shown <- utils::head(seq_len(found), 15L)
  for (k in shown) {
    line <- sprintf(
      "%3d: %6s %%  %11s  %4s %%  %s",
      k,
      format(round(100 * x$summary$variance[[k]], 1), nsmall = 1L),
      format(signif(x$summary$lengthscale[[k]], 3)),
      format(round(100 * x$summary$smooth[[k]])),
      paste(factor_genes(x, k, 12L), collapse = ", ")
    )
    cli::cat_line(cli::ansi_strtrim(line, cli::console_width()))
  }
  if (found > length(shown)) {
    cli::cat_line(sprintf("... and %d more", found - length(shown)))
  }
  invisible(x)
}

#' Genes with the largest loadings of a factor, those that it lowers with a minus
#' @noRd
factor_genes <- function(x, k, n) {
  loading <- x$loadings[, k]
  top <- utils::head(order(-abs(loading)), min(n, sum(loading != 0)))
  paste0(ifelse(loading[top] < 0, "-", ""), rownames(x$loadings)[top])
}

#' Spatial factors at any location
#'
#' The posterior of each factor's smooth part at new locations, or at the spots themselves: its mean and
#' standard error (of several samples, about the factor's mean in the sample). It is predicted from the 32
#' nearest spots, or, for lengthscales above 2.5 spacings, from means over the 32 nearest cells of spots.
#'
#' @param object A result of [spatial_factors()].
#' @inheritParams predict.patina_patterns
#' @param wide One row for each location, with columns `factor_1`, `se_1`, ...?
#' @returns A tibble with `spot` (at the spots only), `sample` (if there are several), the coordinates,
#'   `factor`, `value` and `se`, one row for each location and factor, or wide.
#' @section Errors:
#' `patina_error_coords` if `newcoords` has other columns than the fit or values that are not
#' finite; `patina_error_argument` if `sample_id` does not fit.
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 150, n_genes = 60)
#' coords <- tissue$sample_info[c("x", "y")]
#' fit <- spatial_factors(tissue$counts, coords, n_factors = 3, threads = 1)
#' predict(fit, data.frame(x = c(1, 2.5), y = 3))
predict.patina_factors <- function(
  object,
  newcoords = NULL,
  ...,
  sample_id = NULL,
  wide = FALSE,
  threads = NULL
) {
  checked(rlang::check_dots_empty())
  call <- rlang::current_env()
  check_flag(wide)
  check_factors(object, "object")
  threads <- resolve_threads(threads, call)
  model <- object$model
  places <- new_places(newcoords, sample_id, model$coords, model$given, call)
  fields <- if (is.null(newcoords)) {
    values <- unname(as.matrix(object$factors[colnames(object$loadings)]))
    list(value = values, se = model$std_errors[model$given$row, , drop = FALSE])
  } else {
    predict_fields(model, places$coords, places$sample, threads)
  }
  field_table(places$columns, fields, wide, "factor")
}

#' The posterior of factors at new places
#' @param sample Numbers of their samples.
#' @returns A list of `value` and `se`, places × factors.
#' @noRd
predict_fields <- function(model, new, sample, threads) {
  fields <- call_rust(
    rust_predict_factors,
    model$coords,
    model$sizes,
    model$seen,
    model$kernels$lengthscale,
    model$kernels$delta,
    model$kernels$prior,
    new,
    as.integer(sample),
    threads
  )
  fields$value <- fields$value + model$sample_means[sample, , drop = FALSE]
  fields
}

#' Check that `x` is a result of spatial_factors()
#' @noRd
check_factors <- function(x, arg = "factors", call = rlang::caller_env()) {
  if (!inherits(x, "patina_factors")) {
    abort_patina(
      "{.arg {arg}} must be a result of {.fun spatial_factors}, not {.obj_type_friendly {x}}.",
      class = "argument",
      call = call
    )
  }
  absent <- setdiff(
    c("coords", "sizes", "given", "seen", "sample_means", "kernels", "tissue", "std_errors"),
    names(x$model)
  )
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{.arg {arg}} has no {.field {absent}} in its {.field model}, as if an earlier version had made it.",
        i = "Run {.fun spatial_factors} again."
      ),
      class = "argument",
      call = call
    )
  }
}
