# From input and kernels to fits: the loop over blocks of genes that the test and the model search share.

#' The spots, sample by sample, as Rust takes them
#'
#' @noRd
sample_order <- function(input) {
  sample <- input$sample_id
  if (is.null(sample)) {
    return(list(order = seq_len(input$n_spots), sizes = input$n_spots))
  }
  list(order = order(sample), sizes = tabulate(sample, nlevels(sample)))
}

#' Decompose the kernels
#'
#' @param calibrated Whether calibrated p-values are wanted.
#' @param shared Whether the fraction of spatial variance is that which spots share; otherwise SpatialDE's.
#' @returns A list: `test` (external pointer), `spots` (see `sample_order()`), `kernels` and `groups` of those
#'   that can be had, and `description`, a tibble of them with engine and rank.
#' @noRd
prepare_fitter <- function(
  input,
  kernels,
  calibrated,
  approximation,
  run,
  fit = "likelihood",
  shared = TRUE
) {
  spots <- sample_order(input)
  check_approximation(approximation, kernels, spots$sizes, run)
  test <- call_rust(
    rust_prepare_test,
    input$coords[spots$order, , drop = FALSE],
    spots$sizes,
    kernels$model,
    kernels$lengthscale,
    kernels$group,
    calibrated,
    shared,
    approximation,
    fit,
    run$threads,
    steps_bar(run$progress, "Preparing kernels"),
    call = run$call
  )
  description <- call_rust(rust_describe_test, test, call = run$call)
  kept <- description$kernel
  report_left_out(kernels[-kept, ], spots$sizes)
  kernels <- kernels[kept, ]
  kernels$group <- match(kernels$group, unique(kernels$group))
  list(
    test = test,
    spots = spots,
    kernels = kernels,
    groups = max(kernels$group),
    description = tibble::as_tibble(c(kernels[c("model", "lengthscale")], description[-1L]))
  )
}

#' Fit genes, block by block
#'
#' @param fitter From `prepare_fitter()`.
#' @param prepared From `prepare()`; `run$workers` are other processes (see workers.R).
#' @param genes Indices of genes.
#' @returns A list of vectors with one element for each gene, in the order of `genes`; `probabilities` has one
#'   for each gene and group, groups varying fastest. What could not be tested is `NA`.
#' @noRd
fit_genes <- function(fitter, prepared, genes = seq_along(prepared$input$genes)) {
  input <- prepared$input
  run <- prepared$run
  fitter$combinations <- prepare_combinations(fitter, prepared)
  size <- genes_per_call(input$n_spots, run)
  most <- Inf
  if (!is.null(run$workers)) {
    # enough blocks for all of them
    share <- length(genes) / BiocParallel::bpnworkers(run$workers)
    most <- min(size, rust_block * ceiling(share / rust_block))
  }
  blocks <- gene_blocks(input, max_values = size * input$n_spots, call = run$call, most = most)
  blocks <- lapply(blocks, \(block) block[block %in% genes])
  blocks <- blocks[lengths(blocks) > 0L]
  tick <- progress_bar(run$progress, "Testing genes", length(genes))
  fits <- if (is.null(run$workers)) {
    fit_here(fitter, prepared, blocks, tick)
  } else {
    fit_on_workers(fitter, prepared, blocks, tick)
  }
  fits <- report_failures(fits, blocks, prepared, fitter$groups)
  in_order(bind_fits(fits), match(genes, unlist(blocks)), fitter$groups)
}

#' Fit blocks of genes in this process
#' @returns A list of fits, with the reason in place of a block that could not be read.
#' @noRd
fit_here <- function(fitter, prepared, blocks, tick) {
  steps <- block_steps(fitter)
  lapply(blocks, function(block) {
    raw <- tryCatch(steps$read(prepared$input, block), patina_error_reading = reason)
    if (is.character(raw)) {
      tick(length(block))
      return(raw)
    }
    steps$fit(fitter, raw, block, prepared$normalizer, prepared$run, tick)
  })
}

#' How a block of genes is read and fitted
#' @noRd
block_steps <- function(fitter) {
  if (is.null(fitter$combinations)) {
    list(read = input_block, fit = fit_block)
  } else {
    list(read = input_sparse_block, fit = fit_sparse_block)
  }
}

# Rust fills its blocks of genes up to this number.
rust_block <- 128L

#' How many genes one call into Rust should get
#'
#' About two million values keep the progress bar moving, but every thread needs
#' a block of its own, and 200 MB are enough. The option `patina.block_genes` sets another number.
#' @noRd
genes_per_call <- function(n_spots, run) {
  if (!is.null(run$block_genes)) {
    return(run$block_genes)
  }
  values <- min(max(2e6, run$threads * rust_block * n_spots), 2.5e7)
  rust_block * ceiling(values / n_spots / rust_block)
}

bind_fits <- function(fits) {
  if (length(fits) == 1L) fits[[1L]] else do.call(Map, c(list(c), fits))
}

#' Fits in another order of their genes
#' @noRd
in_order <- function(fits, order, groups) {
  if (!is.unsorted(order)) {
    return(fits)
  }
  expanded <- rep((order - 1L) * groups, each = groups) + seq_len(groups)
  Map(\(values, name) values[if (name == "probabilities") expanded else order], fits, names(fits))
}

#' Fit the genes of one block
#'
#' What is read at once (a file's chunks) may be more than one call into Rust should take.
#'
#' @param fitter Of it, `test` and `spots`.
#' @param raw The block, from `input_block()`, and `genes`, the indices of its columns.
#' @param run Of it, `threads`, `block_genes` and `call`.
#' @param tick Is told how many genes were done.
#' @noRd
fit_block <- function(fitter, raw, genes, normalizer, run, tick = no_tick) {
  size <- genes_per_call(nrow(raw), run)
  starts <- seq.int(1L, length(genes), by = size)
  fits <- lapply(starts, function(start) {
    if (length(starts) > 1L) {
      part <- seq.int(start, min(start + size - 1L, length(genes)))
      raw <- raw[, part, drop = FALSE]
      genes <- genes[part]
    }
    status <- gene_status(raw)
    y <- normalizer(raw, genes, run$threads)
    explained <- attr(y, "explained")
    if (!is.null(explained)) {
      # nothing but rounding errors
      y[, explained] <- NaN
      status[explained & status == "ok"] <- "explained"
    }
    order <- fitter$spots$order
    if (!identical(order, seq_len(nrow(y)))) {
      y <- y[order, , drop = FALSE]
    }
    fit <- call_rust(rust_fit_genes, fitter$test, y, run$threads, call = run$call)
    bad <- status != "ok"
    fit$status[bad] <- status[bad]
    tick(length(genes))
    fit
  })
  bind_fits(fits)
}

# Failures --------------------------------------------------------------------------------------

#' What an error says, as the reason why a block has no fit
#' @noRd
reason <- function(cnd) {
  cli::ansi_strip(conditionMessage(cnd))
}

#' Put rows of `NA` in place of blocks that failed, and warn
#'
#' @param fits A list of fits, with the reason in place of those that failed.
#' @noRd
report_failures <- function(fits, blocks, prepared, groups) {
  failed <- vapply(fits, is.character, logical(1L))
  if (!any(failed)) {
    return(fits)
  }
  reasons <- unique(unlist(fits[failed]))
  genes <- prepared$input$genes[unlist(blocks[failed])]
  if (all(failed)) {
    here <- is.null(prepared$run$workers)
    abort_patina(
      c(
        if (here) "No gene of {.arg x} could be read." else "The workers of {.arg BPPARAM} fitted no gene.",
        x = "{reasons[1]}"
      ),
      class = if (here) "reading" else "workers",
      call = prepared$run$call
    )
  }
  warn_patina(
    c(
      "{length(genes)} gene{?s} in {sum(failed)} block{?s} failed: {.val {first_few(genes)}}.",
      x = "{reasons[1]}",
      i = "{cli::qty(length(genes))}{?It has/They have} the status {.val failed} and no values; all others
        are complete. Test {cli::qty(length(genes))}{?it/them} alone once the reason is gone."
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
