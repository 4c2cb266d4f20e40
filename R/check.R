# Checks of arguments that several functions share. Each names the argument, what is wrong and what to do.

#' Pass on what a check of rlang returns; its errors become patina's
#'
#' @param check A call such as `rlang::arg_match(how)`.
#' @noRd
checked <- function(check) {
  tryCatch(check, error = function(cnd) {
    class(cnd) <- c("patina_error_argument", "patina_error", class(cnd))
    rlang::cnd_signal(cnd)
  })
}

#' Check that `x` is one whole number
#' @noRd
check_whole_number <- function(
  x,
  min = -Inf,
  max = Inf,
  arg = rlang::caller_arg(x),
  call = rlang::caller_env()
) {
  if (!rlang::is_integerish(x, n = 1L, finite = TRUE) || x < min || x > max) {
    bounds <- c(
      if (is.finite(min)) paste("at least", count_text(min)),
      if (is.finite(max)) paste("at most", count_text(max))
    )
    of <- if (length(bounds) > 0L) paste0(" of ", paste(bounds, collapse = " and "))
    abort_patina("{.arg {arg}} must be a whole number{of}.", class = "argument", call = call)
  }
}

#' Check that `x` is one number
#'
#' @param within A function that says whether a number is in the range that `range` tells.
#' @noRd
check_number <- function(x, within, range, arg = rlang::caller_arg(x), call = rlang::caller_env()) {
  if (!rlang::is_bare_numeric(x, n = 1L) || !isTRUE(within(x))) {
    abort_patina("{.arg {arg}} must be one number {range}.", class = "argument", call = call)
  }
}

#' Check that `x` is TRUE or FALSE
#' @noRd
check_flag <- function(x, arg = rlang::caller_arg(x), call = rlang::caller_env()) {
  if (!rlang::is_bool(x)) {
    abort_patina(
      "{.arg {arg}} must be {.code TRUE} or {.code FALSE}, not {.obj_type_friendly {x}}.",
      class = "argument",
      call = call
    )
  }
}

#' Check lengthscales, or periods
#' @noRd
check_lengthscales <- function(x, arg, call) {
  if (!is.numeric(x) || length(x) == 0L || !all(is.finite(x) & x > 0)) {
    abort_patina(
      c(
        "{.arg {arg}} must be positive, finite numbers, in units of {.arg coords}.",
        i = if (arg == "lengthscales") {
          "Leave it out to have them chosen by the distances between spots; {.val spatialde} for
            SpatialDE's own."
        } else {
          "Leave it out to have them chosen by the distances between spots."
        }
      ),
      class = "argument",
      call = call
    )
  }
}

#' Check numbers of patterns
#' @noRd
check_n_patterns <- function(x, call) {
  if (!rlang::is_integerish(x, finite = TRUE) || length(x) == 0L || any(x < 1)) {
    abort_patina(
      "{.arg n_patterns} must be whole numbers of at least 1.",
      class = "argument",
      call = call
    )
  }
}

#' Check that `x` is a data frame with certain columns
#'
#' @param numeric Columns that must be numbers if they are there.
#' @noRd
check_columns <- function(x, columns, arg, call = rlang::caller_env(), numeric = character()) {
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
        "{.arg {arg}} has no {cli::qty(absent)}column{?s} {.field {absent}}.",
        i = "Give the result as it was returned, filtered or sorted as you like."
      ),
      class = "argument",
      call = call
    )
  }
  for (column in intersect(numeric, names(x))) {
    # a column of `NA` alone is logical
    if (!is.numeric(x[[column]]) && !all(is.na(x[[column]]))) {
      abort_patina(
        "Column {.field {column}} of {.arg {arg}} must be numbers, not {.obj_type_friendly {x[[column]]}}.",
        class = "argument",
        call = call
      )
    }
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

#' Is this column one of numbers?
#' @noRd
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
