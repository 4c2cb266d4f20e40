#' @keywords internal
#' @importFrom rlang %||%
#' @useDynLib patina, .registration = TRUE
"_PACKAGE"
