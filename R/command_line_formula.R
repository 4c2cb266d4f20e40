# Formulas of the command line. They may come from people who may not run code here, so that all that a
# formula calls is on a list.

# Of a term, and of arithmetic within a call; `::` only as in splines::ns.
formula_operators <- c("+", "-", "*", ":", "^", "(")
formula_arithmetic <- c("+", "-", "*", "/", "^", "(", "log", "exp", "sqrt")
formula_functions <- c("log", "exp", "sqrt", "poly", "ns", "factor", "I")

#' A one-sided formula from text
#' @noRd
parse_formula <- function(text) {
  if (is.null(text)) {
    return(NULL)
  }
  # str2lang() parses, and evaluates nothing
  formula <- tryCatch(str2lang(text), error = function(cnd) NULL)
  if (!is.call(formula) || !identical(formula[[1L]], quote(`~`)) || length(formula) != 2L) {
    command_line_error("--covariates must be a formula such as '~ batch', not '{text}'.")
  }
  forbidden <- forbidden_calls(formula[[2L]], c(formula_operators, formula_functions))
  if (length(forbidden) > 0L) {
    allowed <- paste(c("+ : * ^ -", setdiff(formula_functions, "ns"), "splines::ns"), collapse = " ")
    command_line_error(c(
      "--covariates has {.val {first_few(unique(forbidden))}}, which a formula here may not use.",
      i = "It may have columns, numbers, and {allowed}; within a function arithmetic only."
    ))
  }
  rlang::new_formula(NULL, formula[[2L]], env = formula_environment())
}

#' What an expression has that is not on the list
#'
#' @param allowed The functions that may be called here; in what they are given only arithmetic.
#' @returns Text for each of them.
#' @noRd
forbidden_calls <- function(expression, allowed) {
  if (is.symbol(expression) || (is.numeric(expression) && length(expression) == 1L)) {
    return(character())
  }
  # such as poly(x, 2, raw = TRUE)
  if (is.logical(expression) && length(expression) == 1L) {
    return(character())
  }
  if (!is.call(expression)) {
    return(deparse(expression, nlines = 1L))
  }
  head <- expression[[1L]]
  name <- if (is.symbol(head)) {
    as.character(head)
  } else if (identical(head, quote(splines::ns))) {
    "ns"
  }
  if (is.null(name) || !name %in% allowed) {
    return(deparse(head, nlines = 1L))
  }
  within <- if (name %in% formula_operators) allowed else formula_arithmetic
  unlist(lapply(as.list(expression)[-1L], forbidden_calls, within))
}

#' Where a formula is evaluated: its functions, and nothing of anybody's workspace
#' @noRd
formula_environment <- function() {
  functions <- list(poly = stats::poly, ns = splines::ns)
  list2env(functions, parent = baseenv())
}

#' Check that a formula is over the columns that there are
#' @noRd
check_formula_columns <- function(formula, columns, path) {
  absent <- setdiff(all.vars(formula), c(columns, "total_counts"))
  if (length(absent) > 0L) {
    command_line_error(
      "--covariates uses {.val {absent}}, which {path} does not have: its columns are
        {.val {first_few(columns, 10L)}}."
    )
  }
}
