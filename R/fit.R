# From input and kernels to fits: the loop over blocks of genes that the test and the model search share.

kernel_models <- c("SE", "PER", "linear")

#' The kernels to try
#'
#' @returns A data.frame with a row for each kernel: `model`, `lengthscale` (or period; `NA` for the
#'   linear kernel) and `group`; each gene gets the best kernel of each group.
#' @noRd
kernel_table <- function(kernels, lengthscales, input, call, by_model = FALSE) {
  unknown <- setdiff(kernels, kernel_models)
  if (!is.character(kernels) || length(kernels) == 0L || length(unknown) > 0L) {
    abort_patina(
      c(
        "{.arg kernels} must be one or more of {.val {kernel_models}}.",
        x = if (is.character(kernels) && length(unknown) > 0L) "It has {.val {first_few(unknown)}}."
      ),
      class = "argument",
      call = call
    )
  }
  lengthscales <- lengthscales %||% lengthscale_grid(input, call)
  if (
    !is.numeric(lengthscales) ||
      length(lengthscales) == 0L ||
      !all(is.finite(lengthscales) & lengthscales > 0)
  ) {
    abort_patina(
      c(
        "{.arg lengthscales} must be positive, finite numbers, in units of {.arg coords}.",
        i = "Leave it out for ten from half the smallest to twice the largest distance of two spots."
      ),
      class = "argument",
      call = call
    )
  }
  tables <- lapply(unique(kernels), function(model) {
    data.frame(
      model = model,
      lengthscale = if (model == "linear") NA_real_ else sort(unique(as.double(lengthscales)))
    )
  })
  table <- do.call(rbind, tables)
  table$group <- if (by_model) match(table$model, unique(kernels)) else 1L
  table
}

#' Ten lengthscales over the distances within samples
#' @noRd
lengthscale_grid <- function(input, call) {
  spots <- sample_order(input)
  call_rust(
    rust_default_grid,
    input$coords[spots$order, , drop = FALSE],
    spots$sizes,
    10L,
    call = call
  )
}

#' The spots, sample by sample, as Rust takes them
#' @noRd
sample_order <- function(input) {
  if (is.null(input$sample_id)) {
    n <- length(input$spots)
    return(list(order = seq_len(n), sizes = n))
  }
  list(order = order(input$sample_id), sizes = as.integer(table(input$sample_id)))
}

#' Decompose the kernels
#'
#' @param calibrated Whether calibrated p-values are wanted.
#' @returns A list: `test` (external pointer), `spots` (see `sample_order()`), `groups` and
#'   `description`, a tibble of the kernels with engine and rank.
#' @noRd
prepare_fitter <- function(input, kernels, calibrated, threads, call) {
  spots <- sample_order(input)
  test <- call_rust(
    rust_prepare_test,
    input$coords[spots$order, , drop = FALSE],
    spots$sizes,
    kernels$model,
    kernels$lengthscale,
    kernels$group,
    calibrated,
    threads,
    call = call
  )
  description <- call_rust(rust_describe_test, test, call = call)
  list(
    test = test,
    spots = spots,
    groups = max(kernels$group),
    description = tibble::as_tibble(c(kernels[c("model", "lengthscale")], description))
  )
}

#' Fit genes, block by block
#'
#' @param fitter From `prepare_fitter()`.
#' @param normalizer From `new_normalizer()`.
#' @param genes Indices of genes.
#' @returns A list of vectors with one element for each gene (and group, varying fastest), in the order of
#'   `genes`; `status` and `loglik_null` have one for each gene. What could not be tested is `NA`.
#' @noRd
fit_genes <- function(
  fitter,
  input,
  normalizer,
  genes = seq_along(input$genes),
  threads,
  progress,
  call
) {
  blocks <- gene_blocks(input)
  blocks <- lapply(blocks, \(block) block[block %in% genes])
  blocks <- blocks[lengths(blocks) > 0L]
  if (progress) {
    bar <- cli::cli_progress_bar("Testing genes", total = length(genes))
  }
  fits <- lapply(blocks, function(block) {
    fit <- fit_block(fitter, input, normalizer, block, threads, call)
    if (progress) {
      cli::cli_progress_update(inc = length(block), id = bar)
    }
    fit
  })
  if (progress) {
    cli::cli_progress_done(id = bar)
  }
  fits <- if (length(fits) == 1L) fits[[1L]] else do.call(Map, c(list(c), fits))
  in_order(fits, match(genes, unlist(blocks)), fitter$groups)
}

#' Fits in another order of their genes
#' @noRd
in_order <- function(fits, order, groups) {
  if (!is.unsorted(order)) {
    return(fits)
  }
  expanded <- rep((order - 1L) * groups, each = groups) + seq_len(groups)
  per_gene <- c("status", "loglik_null", "pval", "log10_pval")
  Map(\(values, name) values[if (name %in% per_gene) order else expanded], fits, names(fits))
}

fit_block <- function(fitter, input, normalizer, genes, threads, call) {
  raw <- input_block(input, genes)
  status <- gene_status(raw)
  y <- normalizer(raw, genes)
  if (!is.null(input$sample_id)) {
    y <- y[fitter$spots$order, , drop = FALSE]
  }
  fit <- call_rust(rust_fit_genes, fitter$test, y, threads, call = call)
  bad <- status != "ok"
  fit$status[bad] <- status[bad]
  fit
}
