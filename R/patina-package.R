#' @keywords internal
#' @importFrom rlang %||% .data
#' @useDynLib patina, .registration = TRUE
"_PACKAGE"
