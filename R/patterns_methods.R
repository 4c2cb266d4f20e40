# What can be done with tissue patterns: print, summary, predict.

#' @export
print.patina_patterns <- function(x, ...) {
  found <- length(x$weights)
  unused <- sum(is.na(x$genes$pattern))
  cli::cat_line(sprintf(
    "<patina_patterns> %d pattern%s of %d gene%s at %d spots",
    found,
    if (found == 1L) "" else "s",
    nrow(x$genes) - unused,
    if (nrow(x$genes) - unused == 1L) "" else "s",
    length(x$model$given$spots)
  ))
  cli::cat_line(sprintf(
    "lengthscale %s, noise %s of a gene's variance, bound %.2f",
    format(signif(x$lengthscale, 4)),
    format(signif(x$noise, 3)),
    utils::tail(x$elbo, 1L)
  ))
  if (!is.null(x$held_out)) {
    at <- match(x$selection$n_patterns[x$selection$chosen][1L], x$held_out$n_patterns)
    cli::cat_line(sprintf(
      "number chosen by left-out spots: %.1f %% of their variance predicted",
      100 * x$held_out$r_squared[[at]]
    ))
  }
  soft <- sum(x$genes$membership < 0.9, na.rm = TRUE)
  if (soft > 0L) {
    cli::cat_line(sprintf("between patterns (no membership above 0.9): %d", soft))
  }
  if (unused > 0L) {
    cli::cat_line(sprintf("genes without a pattern: %d", unused))
  }
  shown <- utils::head(seq_len(found), 12L)
  for (k in shown) {
    genes <- pattern_genes(x, k)
    line <- sprintf("%3d: %4d  %s", k, length(genes), paste(genes, collapse = ", "))
    cli::cat_line(cli::ansi_strtrim(line, cli::console_width()))
  }
  if (found > length(shown)) {
    cli::cat_line(sprintf("... and %d more", found - length(shown)))
  }
  invisible(x)
}

#' Genes of a pattern, the surest first
#' @noRd
pattern_genes <- function(x, k) {
  genes <- x$genes[x$genes$pattern %in% k, ]
  genes$gene[order(-genes$membership)]
}

#' Summary of tissue patterns
#'
#' @param object,x A result of [spatial_patterns()], and its summary.
#' @param ... Not used.
#' @returns A tibble of class `summary.patina_patterns` with one row for each pattern: `pattern`,
#'   `n_genes`, `weight` (share of the genes), `membership` (mean over its genes), `signal`
#'   (variance of the pattern over the spots, of a gene's variance of 1), `genes` (a list of names,
#'   the surest first). Attributes `lengthscale`, `noise`, `bound` and `selection` as in the object.
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 150, n_genes = 60)
#' coords <- tissue$sample_info[c("x", "y")]
#' genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
#' fit <- spatial_patterns(tissue$counts, coords, genes, 4, lengthscale = 2, threads = 1)
#' summary(fit)
summary.patina_patterns <- function(object, ...) {
  ids <- seq_along(object$weights)
  genes <- lapply(ids, pattern_genes, x = object)
  value <- split(object$patterns$value, object$patterns$pattern)
  columns <- list(
    pattern = ids,
    n_genes = lengths(genes),
    weight = object$weights,
    membership = vapply(ids, \(k) mean(object$genes$membership[object$genes$pattern %in% k]), 0),
    signal = vapply(value, \(v) mean((v - mean(v))^2), 0, USE.NAMES = FALSE),
    genes = genes
  )
  tibble::new_tibble(
    columns,
    nrow = length(ids),
    class = "summary.patina_patterns",
    lengthscale = object$lengthscale,
    noise = object$noise,
    bound = utils::tail(object$elbo, 1L),
    selection = object$selection
  )
}

#' @rdname summary.patina_patterns
#' @export
print.summary.patina_patterns <- function(x, ...) {
  cli::cat_line(sprintf(
    "%d patterns of %d genes: lengthscale %s, noise %s, bound %.2f",
    nrow(x),
    sum(x$n_genes),
    format(signif(attr(x, "lengthscale"), 4)),
    format(signif(attr(x, "noise"), 3)),
    attr(x, "bound")
  ))
  table <- x
  class(table) <- setdiff(class(x), "summary.patina_patterns")
  print(table, ...)
  tried <- attr(x, "selection")
  if (nrow(tried) > 1L) {
    cli::cat_line("Bounds by lengthscale (rows) and number of patterns (columns):")
    bounds <- tapply(tried$bound, list(signif(tried$lengthscale, 4), tried$n_patterns), max)
    print(round(bounds, 2))
  }
  invisible(x)
}

#' Tissue patterns at any location
#'
#' The posterior of each pattern's Gaussian process at new locations, or at the spots themselves:
#' its mean and standard error. Far from all spots a pattern is 0 with standard error 1.
#'
#' @param object A result of [spatial_patterns()].
#' @param newcoords New locations in the units of `coords`: a data.frame or matrix with a row for
#'   each location (columns matched by name if it has those of `coords`), or a vector if there is
#'   one coordinate. `NULL` means the spots.
#' @param ... Not used.
#' @param sample_id For patterns over several samples: the sample of each new location.
#' @param wide One row for each location, with columns `pattern_1`, `se_1`, ... for the patterns?
#' @param threads Number of threads, see [spatial_test()].
#' @returns A tibble with `spot` (at the spots only), `sample` (if there are several), the coordinates,
#'   `pattern`, `value` and `se` (both in standard deviations of a gene), one row for each location and
#'   pattern, or wide.
#' @section Errors:
#' `patina_error_coords` if `newcoords` has other columns than the fit or values that are not
#' finite; `patina_error_argument` if `sample_id` does not fit.
#' @importFrom stats predict
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 150, n_genes = 60)
#' coords <- tissue$sample_info[c("x", "y")]
#' genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
#' fit <- spatial_patterns(tissue$counts, coords, genes, 4, lengthscale = 2, threads = 1)
#' predict(fit, data.frame(x = c(1, 2.5), y = 3))
#' predict(fit, wide = TRUE)
predict.patina_patterns <- function(
  object,
  newcoords = NULL,
  ...,
  sample_id = NULL,
  wide = FALSE,
  threads = NULL
) {
  checked(rlang::check_dots_empty())
  run <- new_run(threads)
  check_flag(wide)
  model <- object$model
  places <- new_places(newcoords, sample_id, model$coords, model$given, run$call)
  fit <- call_rust(
    rust_predict_patterns,
    model$coords,
    model$sizes,
    object$lengthscale,
    model$coefficients,
    object$weights * model$n_genes,
    object$noise,
    places$coords,
    places$sample,
    model$approximation %||% "auto",
    run$threads,
    call = run$call
  )
  field_table(places$columns, fit[c("value", "se")], wide, "pattern")
}

#' Where something is predicted: at new places, or at the spots if there are none
#' @param given From `given_spots()`.
#' @param arg The user's name for `sample_id`.
#' @returns A list: `coords`, `sample`, numbers, and `columns`, what a table says of the places.
#' @noRd
new_places <- function(newcoords, sample_id, coords, given, call, arg = "sample_id") {
  if (is.null(newcoords)) {
    if (!is.null(sample_id)) {
      abort_patina(
        "{.arg {arg}} is of {.arg newcoords}, which is missing.",
        class = "argument",
        call = call
      )
    }
    sample <- as.integer(given$sample_id %||% rep(1L, nrow(given$coords)))
    return(list(coords = given$coords, sample = sample, columns = spot_columns(given)))
  }
  new <- match_new_coords(newcoords, colnames(coords), call)
  levels <- levels(given$sample_id)
  sample <- match_new_samples(sample_id, levels, nrow(new), call, arg)
  names <- if (!is.null(levels)) factor(levels[sample], levels)
  list(coords = new, sample = sample, columns = c(sample_column(names), as.data.frame(new)))
}

#' The samples as a column of places, if there are several
#' @noRd
sample_column <- function(sample_id) {
  if (!is.null(sample_id)) list(sample = sample_id)
}

#' One row for each place and pattern (or factor), or (wide) one column for each
#' @param places A list of columns.
#' @param values A named list of matrices, places × patterns.
#' @param what "pattern" or "factor".
#' @noRd
field_table <- function(places, values, wide, what) {
  ids <- seq_len(ncol(values[[1L]]))
  if (wide) {
    columns <- lapply(names(values), function(name) {
      prefix <- if (name == "value") what else name
      columns <- lapply(ids, \(k) values[[name]][, k])
      stats::setNames(columns, paste0(prefix, "_", ids))
    })
    return(tibble::as_tibble(c(places, do.call(c, columns)), .name_repair = "minimal"))
  }
  n <- nrow(values[[1L]])
  tibble::as_tibble(
    c(
      lapply(places, rep, times = length(ids)),
      stats::setNames(list(rep(ids, each = n)), what),
      lapply(values, as.vector)
    ),
    .name_repair = "minimal"
  )
}
