# What every verb does first: read the input, find how it is normalised, and how the call is to run.

#' How a call runs
#'
#' @param threads,workers,progress The user's `threads`, `BPPARAM` and `progress`.
#' @param call The user's call, for errors.
#' @returns A list: `threads`, a number; `asked`, what the user said of it, or `NULL`; `workers`, a
#'   BiocParallelParam or `NULL`; `progress`; `block_genes`, how many genes at a time, or `NULL`; `call`;
#'   `started`, a time in seconds.
#' @noRd
new_run <- function(threads, workers = NULL, progress = FALSE, call = rlang::caller_env()) {
  check_flag(progress, "progress", call)
  list(
    threads = resolve_threads(threads, call),
    asked = threads %||% getOption("patina.threads"),
    workers = check_workers(workers, call),
    progress = progress,
    block_genes = chosen_block_genes(call),
    call = call,
    started = proc.time()[["elapsed"]]
  )
}

#' From the user's arguments to what is computed on
#'
#' @param settings From `new_settings()`.
#' @param run From `new_run()`.
#' @param plot Whether this is for a picture, to which copies of spots do not matter.
#' @returns A list: `input`, a `patina_input`; `normalizer`, see `new_normalizer()`; `settings`; `run`.
#' @noRd
prepare <- function(x, coords, assay, from, sample_info, sample_id, settings, run, plot = FALSE) {
  input <- as_input(x, coords, assay, sample_info, sample_id, from, run$call, run$progress)
  left <- if (plot) {
    list(input = input, settings = settings)
  } else {
    leave_out_copies(input, settings, run$call)
  }
  c(left, list(normalizer = new_normalizer(left$input, left$settings, run), run = run))
}

#' Number of threads to use
#'
#' The option `patina.threads`, else all cores, and at most 2 under R CMD check. Never more than there are
#' cores: they would only get in each other's way.
#'
#' @param threads The user's `threads` argument, or `NULL`.
#' @noRd
resolve_threads <- function(threads = NULL, call = rlang::caller_env(), cores = NULL) {
  cores <- cores %||% parallel::detectCores()
  cores <- if (is.na(cores)) 1L else cores
  threads <- threads %||% getOption("patina.threads")
  if (is.null(threads)) {
    threads <- cores
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
  # two are always granted, so that what tests and examples ask for is silent everywhere
  most <- max(cores, 2L)
  if (threads > most) {
    inform_patina("{.arg threads} is {threads}, and this machine has {cores} core{?s}: {most} are used.")
  }
  as.integer(min(threads, most))
}

#' The option `patina.block_genes`, checked
#' @noRd
chosen_block_genes <- function(call) {
  chosen <- getOption("patina.block_genes")
  if (!is.null(chosen)) {
    check_whole_number(chosen, 1, 1e6, arg = "options(patina.block_genes)", call = call)
  }
  chosen
}

#' Give a result its class and remember how it was made
#' @noRd
new_result <- function(result, class, input, ...) {
  attr(result, "patina") <- list(
    n = input$n_spots,
    n_genes = length(input$genes),
    samples = max(nlevels(input$sample_id), 1L),
    coords = colnames(input$coords),
    version = utils::packageVersion("patina"),
    ...
  )
  class(result) <- c(class, class(result))
  result
}
