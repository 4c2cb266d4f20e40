# Checks of arguments that several functions share.

#' Check that `x` is one whole number
#' @noRd
check_whole_number <- function(x, min, arg = rlang::caller_arg(x), call = rlang::caller_env()) {
  if (!rlang::is_integerish(x, n = 1L, finite = TRUE) || x < min) {
    abort_patina(
      "{.arg {arg}} must be a whole number of at least {min}.",
      class = "argument",
      call = call
    )
  }
}

check_n_patterns <- function(x, call) {
  if (!rlang::is_integerish(x, finite = TRUE) || length(x) == 0L || any(x < 1)) {
    abort_patina(
      "{.arg n_patterns} must be whole numbers of at least 1.",
      class = "argument",
      call = call
    )
  }
}

check_lengthscale <- function(x, call) {
  if (!is.numeric(x) || length(x) == 0L || !all(is.finite(x) & x > 0)) {
    abort_patina(
      "{.arg lengthscale} must be positive, finite numbers, in units of {.arg coords}.",
      class = "argument",
      call = call
    )
  }
}

#' Check that `x` is a data frame with certain columns
#' @noRd
check_columns <- function(x, columns, arg, call = rlang::caller_env()) {
  if (!is.data.frame(x)) {
    abort_patina(
      "{.arg {arg}} must be a table of results, not {.obj_type_friendly {x}}.",
      class = "argument",
      call = call
    )
  }
  absent <- setdiff(columns, names(x))
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{.arg {arg}} has no column{?s} {.field {absent}}.",
        i = "Give the result as it was returned, filtered or sorted as you like."
      ),
      class = "argument",
      call = call
    )
  }
}

#' Check that `x` is a result of spatial_patterns()
#' @noRd
check_patterns <- function(x, arg = "patterns", call = rlang::caller_env()) {
  if (!is.list(x) || !is.data.frame(x[["patterns"]]) || !is.data.frame(x[["genes"]])) {
    abort_patina(
      c(
        "{.arg {arg}} must be a result of patina, not {.obj_type_friendly {x}}.",
        i = "Patterns come from {.fun spatial_patterns}."
      ),
      class = "argument",
      call = call
    )
  }
  check_columns(x$patterns, c("spot", "pattern", "value"), arg, call)
  check_columns(x$genes, c("gene", "pattern", "membership"), arg, call)
}

is_number <- function(column) {
  # the bits of an integer64 are not a double's
  is.numeric(column) && !inherits(column, "integer64") && NCOL(column) == 1L
}

#' "name (class)" of the columns that are not numbers
#' @noRd
not_numbers <- function(columns) {
  bad <- !vapply(columns, is_number, logical(1L))
  classes <- vapply(columns[bad], \(column) class(column)[1L], "")
  list(
    which = unname(which(bad)),
    label = sprintf("%s (%s)", names(columns)[bad], classes)
  )
}

check_numeric_columns <- function(columns, call) {
  bad <- not_numbers(columns)
  if (length(bad$which) == 0L) {
    return(invisible())
  }
  first <- columns[[1L]]
  looks_like_names <- identical(bad$which[1L], 1L) &&
    (is.character(first) || is.factor(first)) &&
    anyDuplicated(first) == 0L
  abort_patina(
    c(
      "{.arg x} has {length(bad$which)} column{?s} that {?is/are} not numeric:
        {.field {first_few(bad$label)}}.",
      i = if (looks_like_names) {
        "The first column looks like names. Move it into the row names:
          {.code x <- data.frame(x[-1], row.names = x[[1]], check.names = FALSE)}."
      } else {
        "Keep one column of numbers for each gene; other facts about the spots belong into
          {.arg sample_info}."
      }
    ),
    class = "input",
    call = call
  )
}
