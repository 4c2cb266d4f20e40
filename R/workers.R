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

#' Threads of each worker, before it looks at its own machine, which may have more cores than this one
#' @noRd
threads_each <- function(run) {
  workers <- run$workers
  here <- methods::is(workers, "MulticoreParam") ||
    (methods::is(workers, "SnowParam") && is.numeric(BiocParallel::bpworkers(workers)))
  threads <- if (here) run$threads else run$asked %||% run$threads
  as.integer(min(max(threads %/% BiocParallel::bpnworkers(workers), 1), .Machine$integer.max))
}

#' Fit blocks of genes on other processes
#'
#' @inheritParams fit_genes
#' @param blocks Indices of genes, a vector for each block.
#' @param tick See `progress_bar()`.
#' @returns A list of fits in the order of `blocks`, with the reason in place of a failed one.
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
    folder = folder,
    spectra = spectra,
    combinations = write_combinations(fitter$combinations, folder, run$call),
    fitter = fitter[c("spots", "groups")],
    normalizer = only_function(prepared$normalizer),
    run = list(threads = threads_each(run), block_genes = run$block_genes)
  )
  fits <- list()
  for (now in split(seq_along(blocks), (seq_along(blocks) - 1L) %/% wave)) {
    tasks <- lapply(now, \(i) list(id = i, genes = blocks[[i]], input = worker_input(input, blocks[[i]])))
    fits <- c(fits, run_tasks(tasks, shared, workers, run$call))
    tick(sum(lengths(blocks[now])))
  }
  fits
}

#' Start workers that are not up, and stop them when the caller ends
#' @noRd
start_workers <- function(workers, call, frame = parent.frame()) {
  if (BiocParallel::bpisup(workers)) {
    return(invisible())
  }
  do.call(on.exit, list(as.call(list(stop_workers, workers)), add = TRUE), envir = frame)
  bpstart_workers(workers, call)
}

bpstart_workers <- function(workers, call) {
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
#'
#' If a worker dies BiocParallel returns nothing. What the others finished is in their files; the rest is
#' tried once more, one task after the other, so that a task that ends its worker takes none with it.
#' @returns A list of fits, with the reason in place of a failed one.
#' @noRd
run_tasks <- function(tasks, shared, workers, call) {
  fits <- try_tasks(tasks, shared, workers)
  if (is.list(fits)) {
    return(fits)
  }
  restart_workers(workers, call)
  lapply(tasks, function(task) {
    finished <- read_fit(task, shared$folder)
    if (!is.null(finished)) {
      return(finished)
    }
    fit <- try_tasks(list(task), shared, workers)
    if (is.list(fit)) {
      return(fit[[1L]])
    }
    restart_workers(workers, call)
    paste("A worker ended before its work was done; often it ran out of memory. BiocParallel says:", fit)
  })
}

#' Run tasks on the workers
#' @returns A list of fits; or what BiocParallel says if a worker died.
#' @noRd
try_tasks <- function(tasks, shared, workers) {
  fits <- tryCatch(
    BiocParallel::bplapply(tasks, fit_task, shared = shared, BPPARAM = workers),
    error = reason
  )
  if (is.character(fits)) {
    return(fits)
  }
  whole <- length(fits) == length(tasks) && all(mapply(is_fit, fits, tasks))
  if (whole) fits else "not all results came back."
}

is_fit <- function(fit, task) {
  rlang::is_string(fit) || length(fit$status) == length(task$genes)
}

#' New processes in place of workers of which some have died
#' @noRd
restart_workers <- function(workers, call) {
  stop_workers(workers)
  bpstart_workers(workers, call)
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
    sparse = sparse_columns(values, genes),
    by_spot = genes_by_spot(values, genes),
    h5_columns = h5_columns(values, genes),
    delayed = `dimnames<-`(values[genes, , drop = FALSE], NULL)
  )
  if (input$storage %in% c("by_spot", "h5_columns")) {
    part$storage <- "sparse"
  }
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
#' @param task A list: `id`, a number; `genes`, indices; and `input`, from `worker_input()`.
#' @param shared A list: `folder`; `spectra`, from `write_spectra()`; `combinations`, from
#'   `write_combinations()`; `fitter` without its test; `normalizer`; `run`.
#' @returns The fit, which is in a file too should this process die; or the message of an error.
#' @noRd
fit_task <- function(task, shared) {
  tryCatch(
    {
      shared$run$threads <- suppressMessages(resolve_threads(shared$run$threads))
      fitter <- c(shared$fitter, list(test = read_spectra(shared$spectra)))
      fitter$combinations <- read_combinations(shared$combinations, fitter$test, shared$run)
      steps <- block_steps(fitter)
      raw <- steps$read(task$input, seq_along(task$genes))
      fit <- steps$fit(fitter, raw, task$genes, shared$normalizer, shared$run)
      write_fit(fit, task, shared$folder)
      fit
    },
    error = reason
  )
}

fit_path <- function(task, folder) {
  file.path(folder, sprintf("fit-%d.rds", task$id))
}

#' Write a fit; one that cannot be written is returned all the same
#' @noRd
write_fit <- function(fit, task, folder) {
  part <- tempfile("part-", folder)
  try(
    suppressWarnings({
      saveRDS(fit, part, compress = FALSE)
      file.rename(part, fit_path(task, folder))
    }),
    silent = TRUE
  )
}

#' The fit that a worker finished, or `NULL`
#' @noRd
read_fit <- function(task, folder) {
  path <- fit_path(task, folder)
  if (file.exists(path)) readRDS(path)
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

#' What sparse genes are combinations of, made ready once in each process
#' @noRd
read_combinations <- function(path, test, run) {
  if (!is.null(path) && !identical(last_read$path, path)) {
    combinations <- readRDS(path)
    basis <- call_rust(rust_prepare_basis, test, combinations$functions, run$threads, NULL, call = NULL)
    last_read$combinations <- list(parts = combinations$parts, basis = basis)
    last_read$path <- path
  }
  if (!is.null(path)) last_read$combinations
}

#' @returns The path of the file, or `NULL` if there are no combinations.
#' @noRd
write_combinations <- function(combinations, folder, call) {
  if (is.null(combinations)) {
    return(NULL)
  }
  path <- file.path(folder, "combinations.rds")
  tryCatch(
    suppressWarnings(saveRDS(combinations, path, compress = FALSE)),
    error = \(cnd) abort_spectra(dirname(folder), conditionMessage(cnd), call)
  )
  Sys.chmod(path, "0600", use_umask = FALSE)
  path
}

# The file of spectra ---------------------------------------------------------------------------
#
# Its checksum finds damage, not malice: it is the folder's mode, 0700, that keeps others from changing it.

#' A new folder for the spectra
#' @noRd
spectra_folder <- function(call) {
  parent <- getOption("patina.tempdir") %||% tempdir()
  if (!rlang::is_string(parent)) {
    abort_patina(
      "{.code options(patina.tempdir)} must be the name of a folder, not {.obj_type_friendly {parent}}.",
      class = "tempdir",
      call = call
    )
  }
  folder <- tempfile("patina-", parent)
  # expression may be nobody else's business
  if (!dir.create(folder, showWarnings = FALSE, mode = "0700")) {
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
  Sys.chmod(path, "0600", use_umask = FALSE)
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

#' A normalizer without its attributes, which tell the user what was found and which workers have no use for
#' @noRd
only_function <- function(normalizer) {
  attributes(normalizer) <- NULL
  normalizer
}
