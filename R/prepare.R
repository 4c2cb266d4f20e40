# What every verb does first: read the input, find how it is normalised, and how the call is to run.

#' How a call runs
#'
#' @param threads,workers,progress The user's `threads`, `BPPARAM` and `progress`.
#' @param call The user's call, for errors.
#' @returns A list: `threads`, a number; `workers`, a BiocParallelParam or `NULL`; `progress`; `call`;
#'   `started`, a time in seconds.
#' @noRd
new_run <- function(threads, workers = NULL, progress = FALSE, call = rlang::caller_env()) {
  check_flag(progress, "progress", call)
  list(
    threads = resolve_threads(threads, call),
    workers = check_workers(workers, call),
    progress = progress,
    call = call,
    started = proc.time()[["elapsed"]]
  )
}

#' From the user's arguments to what is computed on
#'
#' @param run From `new_run()`.
#' @returns A list: `input`, a `patina_input`; `normalizer`, see `new_normalizer()`; `run`.
#' @noRd
prepare <- function(x, coords, assay, sample_info, sample_id, normalization, covariates, run) {
  input <- as_input(x, coords, assay, sample_info, sample_id, run$call)
  list(
    input = input,
    normalizer = new_normalizer(input, normalization, covariates, run$call),
    run = run
  )
}

#' Number of threads to use
#'
#' The option `patina.threads`, else all cores, and at most 2 under R CMD check.
#'
#' @param threads The user's `threads` argument, or `NULL`.
#' @noRd
resolve_threads <- function(threads = NULL, call = rlang::caller_env()) {
  threads <- threads %||% getOption("patina.threads")
  if (is.null(threads)) {
    threads <- parallel::detectCores()
    if (is.na(threads)) {
      threads <- 1L
    }
    limit <- tolower(Sys.getenv("_R_CHECK_LIMIT_CORES_"))
    if (nzchar(limit) && limit != "false") {
      threads <- min(threads, 2L)
    }
  }
  if (!rlang::is_integerish(threads, n = 1L, finite = TRUE) || threads < 1) {
    abort_patina(
      c(
        "{.arg threads} must be a whole number of at least 1, not {.val {threads}}.",
        i = "Leave it out to use all cores, or set {.code options(patina.threads = )}."
      ),
      class = "argument",
      call = call
    )
  }
  as.integer(threads)
}

#' Give a result its class and remember how it was made
#' @noRd
new_result <- function(result, class, input, ...) {
  attr(result, "patina") <- list(
    n = length(input$spots),
    samples = max(nlevels(input$sample_id), 1L),
    coords = colnames(input$coords),
    version = utils::packageVersion("patina"),
    ...
  )
  class(result) <- c(class, class(result))
  result
}
