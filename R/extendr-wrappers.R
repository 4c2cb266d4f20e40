#' The version of the compiled core.
#' @noRd
rust_version <- function() .Call(wrap__rust_version)


