# Blocks of genes on other processes, by BiocParallel.
#
# The spectra are computed once, here, and written to a file that every worker reads once. A task holds the
# genes of one block, or the way to them in a file; its result depends on nothing else, so that it does not
# matter which process did it.

#' Is `BPPARAM` what BiocParallel calls one?
#' @noRd
check_workers <- function(workers, call) {
  if (is.null(workers)) {
    return(NULL)
  }
  checked(rlang::check_installed("BiocParallel", call = call))
  if (!methods::is(workers, "BiocParallelParam")) {
    abort_patina(
      c(
        "{.arg BPPARAM} must be a parameter object of BiocParallel, not of class
          {.cls {class(workers)}}.",
        i = "For example {.code BiocParallel::SnowParam(2)}; or leave it out: {.arg threads} uses all cores
          of this machine."
      ),
      class = "argument",
      call = call
    )
  }
  workers
}

#' Fit blocks of genes on other processes
#'
#' @inheritParams fit_genes
#' @param blocks Indices of genes, a vector for each block.
#' @param tick See `progress_bar()`.
#' @returns A list of fits in the order of `blocks`. A block whose worker reported an error has the status
#'   "failed", with a warning. If a worker dies nothing is returned: that is an error.
#' @noRd
fit_on_workers <- function(fitter, prepared, blocks, tick) {
  input <- prepared$input
  run <- prepared$run
  workers <- run$workers
  folder <- spectra_folder(run$call)
  on.exit(forget_spectra(folder), add = TRUE)
  spectra <- write_spectra(fitter$test, folder, run$call)
  start_workers(workers, run$call)
  # tasks wait in memory: a few for each worker at a time, but a cluster gets all at once
  wave <- if (methods::is(workers, "BatchtoolsParam")) {
    length(blocks)
  } else {
    4L * BiocParallel::bpnworkers(workers)
  }
  # what every task needs
  shared <- list(
    spectra = spectra,
    fitter = fitter["spots"],
    normalizer = prepared$normalizer,
    run = list(threads = max(1L, run$threads %/% BiocParallel::bpnworkers(workers)))
  )
  fits <- list()
  for (blocks_now in split(blocks, (seq_along(blocks) - 1L) %/% wave)) {
    tasks <- lapply(blocks_now, \(block) list(genes = block, input = worker_input(input, block)))
    done <- run_tasks(tasks, shared, workers, run$call)
    tick(sum(lengths(blocks_now)))
    fits <- c(fits, done)
  }
  report_failures(fits, blocks, input$genes, fitter$groups, run$call)
}

#' Start workers that are not up, and stop them when the caller ends
#' @noRd
start_workers <- function(workers, call, frame = parent.frame()) {
  if (BiocParallel::bpisup(workers)) {
    return(invisible())
  }
  do.call(on.exit, list(as.call(list(stop_workers, workers)), add = TRUE), envir = frame)
  tryCatch(
    BiocParallel::bpstart(workers),
    error = function(cnd) {
      abort_patina(
        "The workers of {.arg BPPARAM} cannot be started.",
        class = "workers",
        parent = cnd,
        call = call
      )
    }
  )
}

#' Stop workers, even if some have died
#' @noRd
stop_workers <- function(workers) {
  tryCatch(
    suppressWarnings(BiocParallel::bpstop(workers)),
    error = function(cnd) {
      # it cannot say goodbye to a dead one, and would count as running for ever
      empty <- structure(list(), class = c("NULLcluster", "cluster"))
      try(BiocParallel::bpbackend(workers) <- empty, silent = TRUE)
    }
  )
}

#' One wave of tasks
#' @returns A list of fits, with the message of its error in place of a failed one.
#' @noRd
run_tasks <- function(tasks, shared, workers, call) {
  fits <- tryCatch(
    BiocParallel::bplapply(tasks, fit_task, shared = shared, BPPARAM = workers),
    error = function(cnd) {
      abort_patina(
        c(
          "A worker of {.arg BPPARAM} ended before its work was done, and the results with it.",
          x = "BiocParallel says: {conditionMessage(cnd)}",
          i = "Often it ran out of memory: fewer workers need less. Make a new {.arg BPPARAM} before you
            try again."
        ),
        class = "workers",
        call = call
      )
    }
  )
  whole <- length(fits) == length(tasks) &&
    all(mapply(\(fit, task) is.character(fit) || length(fit$status) == length(task$genes), fits, tasks))
  if (!whole) {
    abort_patina("The workers of {.arg BPPARAM} did not return all results.", class = "workers", call = call)
  }
  fits
}

#' What a worker needs to read its genes
#'
#' The raw values as they are stored; a matrix in a file stays there, unless it is a small object that
#' stands for one in memory.
#' @noRd
worker_input <- function(input, genes) {
  part <- input[c("storage", "n_spots")]
  values <- input$values
  part$values <- switch(
    input$storage,
    columns = values[genes],
    dense = values[genes, , drop = FALSE],
    sparse = values[, genes, drop = FALSE],
    delayed = `dimnames<-`(values[genes, , drop = FALSE], NULL)
  )
  dense_size <- 8 * input$n_spots * length(genes)
  if (input$storage == "delayed" && utils::object.size(part$values) > dense_size / 2) {
    block <- input_sparse_block(input, genes)
    part$storage <- if (is.null(block)) "dense" else "sparse"
    part$values <- block %||% as.matrix(part$values)
  }
  part
}

# On the worker ---------------------------------------------------------------------------------

#' Fit the genes of one task
#'
#' @param task A list: `genes`, indices, and `input`, from `worker_input()`.
#' @param shared A list: `spectra`, from `write_spectra()`; `fitter` without its test; `normalizer`; `run`.
#' @returns The fit, or the message of an error.
#' @noRd
fit_task <- function(task, shared) {
  tryCatch(
    {
      fitter <- c(shared$fitter, list(test = read_spectra(shared$spectra)))
      raw <- input_block(task$input, seq_along(task$genes))
      fit_block(fitter, raw, task$genes, shared$normalizer, shared$run)
    },
    error = function(cnd) cli::ansi_strip(conditionMessage(cnd))
  )
}

# The spectra that this process read last.
last_read <- new.env(parent = emptyenv())

#' The spectra, read once in each process
#' @noRd
read_spectra <- function(spectra) {
  if (!identical(last_read$spectra, spectra)) {
    if (!identical(file.size(spectra$path), spectra$size)) {
      abort_patina(
        c(
          "The file of spectra {.path {spectra$path}} cannot be read here, or was changed.",
          i = "The workers must see the folder under the same name: set
            {.code options(patina.tempdir = )} to one that they share."
        ),
        class = "workers"
      )
    }
    last_read$test <- call_rust(rust_load_test, spectra$path, call = NULL)
    last_read$spectra <- spectra
  }
  last_read$test
}

# The file of spectra ---------------------------------------------------------------------------

#' A new folder for the spectra
#' @noRd
spectra_folder <- function(call) {
  parent <- getOption("patina.tempdir") %||% tempdir()
  folder <- tempfile("patina-", parent)
  if (!dir.create(folder, showWarnings = FALSE)) {
    abort_spectra(parent, "It does not exist, or cannot be written to.", call)
  }
  folder
}

#' Write the spectra for the workers
#' @returns A list that tells this file from all others: `path`, `size` and `written`.
#' @noRd
write_spectra <- function(test, folder, call) {
  path <- file.path(folder, "spectra.bin")
  tryCatch(
    call_rust(rust_save_test, test, path, call = call),
    patina_error_file = \(cnd) abort_spectra(dirname(folder), cnd$body[["x"]], call)
  )
  spectra <- list(path = path, size = file.size(path), written = as.numeric(Sys.time()))
  # workers that are this process, or will be a fork of it, need not read
  last_read$spectra <- spectra
  last_read$test <- test
  spectra
}

forget_spectra <- function(folder) {
  unlink(folder, recursive = TRUE)
  rm(list = ls(last_read), envir = last_read)
}

abort_spectra <- function(folder, reason, call) {
  abort_patina(
    c(
      "The spectra for the workers cannot be written to {.path {folder}}.",
      x = "{reason}",
      i = "Set {.code options(patina.tempdir = )} to a folder with enough space that all workers see."
    ),
    class = "tempdir",
    call = call
  )
}

# Failures --------------------------------------------------------------------------------------

#' Put rows of `NA` in place of blocks that failed, and warn
#' @noRd
report_failures <- function(fits, blocks, names, groups, call) {
  failed <- vapply(fits, is.character, logical(1L))
  if (!any(failed)) {
    return(fits)
  }
  messages <- unique(unlist(fits[failed]))
  genes <- names[unlist(blocks[failed])]
  if (all(failed)) {
    abort_patina(
      c("The workers of {.arg BPPARAM} could not fit a single gene.", x = "{messages[1]}"),
      class = "workers",
      call = call
    )
  }
  warn_patina(
    c(
      "{length(genes)} gene{?s} in {sum(failed)} block{?s} failed on {?its/their} worker{?s}:
        {.val {first_few(genes)}}.",
      x = "{messages}",
      i = "{cli::qty(length(genes))}{?It has/They have} the status {.val failed} and no values; all others
        are complete."
    ),
    class = "failed_genes"
  )
  template <- fits[!failed][[1L]]
  fits[failed] <- lapply(lengths(blocks[failed]), function(n_genes) {
    fit <- Map(
      \(values, name) rep(values[NA_integer_], n_genes * if (name == "probabilities") groups else 1L),
      template,
      names(template)
    )
    fit$status[] <- "failed"
    fit
  })
  fits
}
