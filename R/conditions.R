# The one place that makes patina's errors, warnings and messages.

#' Signal an error of class `patina_error_<class>`
#'
#' @param message A cli message: what was wrong, with what; an `i` bullet says what to do.
#' @param class What kind of error: "input", "coords", "names", "counts", "argument", "data",
#'   "rust", ...
#' @param call The user's call, as the error should show it.
#' @param env Where `message` is glued.
#' @noRd
abort_patina <- function(
  message,
  class,
  ...,
  call = rlang::caller_env(),
  env = rlang::caller_env()
) {
  cli::cli_abort(
    message,
    ...,
    class = c(paste0("patina_error_", class), "patina_error"),
    call = call,
    .envir = env
  )
}

#' Signal a warning of class `patina_warning_<class>`
#' @noRd
warn_patina <- function(message, class, ..., env = rlang::caller_env()) {
  cli::cli_warn(
    message,
    ...,
    class = c(paste0("patina_warning_", class), "patina_warning"),
    .envir = env
  )
}

#' Tell the user something of class `patina_message`
#' @noRd
inform_patina <- function(message, ..., env = rlang::caller_env()) {
  cli::cli_inform(message, ..., class = "patina_message", .envir = env)
}

#' The first few of some names, for messages
#' @noRd
first_few <- function(x, n = 5L) {
  shown <- utils::head(as.character(x), n)
  cli::cli_vec(
    if (length(x) > n) c(shown, "...") else shown,
    list("vec-sep2" = ", ", "vec-last" = ", ", "vec-trunc" = n + 1L)
  )
}
