# Genes as combinations of few functions of the spots, which all genes share, plus what their counts add.
#
# A residual at a zero count is a smooth function of the spot's depth, whatever the gene: few functions span
# them all. So a gene with few counts is few coefficients and few entries, and products of the functions with
# the kernels are computed once for all genes.

# Genes with a larger share of non-zero values are tested as dense ones.
most_entries <- 0.25

#' What genes are combinations of, for an engine that can use it
#'
#' @param fitter,prepared See `fit_genes()`.
#' @returns `NULL`, or a list: `parts`, from `combination_parts()`, and `basis`, an external pointer; for
#'   workers, who prepare it themselves, `functions` in its place.
#' @noRd
prepare_combinations <- function(fitter, prepared) {
  parts <- if (is_sparse(prepared$input)) {
    combination_parts(prepared$normalizer, prepared$input)
  }
  run <- prepared$run
  if (is.null(parts) || !call_rust(rust_takes_combinations, fitter$test, call = run$call)) {
    return(NULL)
  }
  functions <- parts$functions
  if (is.null(functions)) {
    functions <- matrix(0, prepared$input$n_spots, 0L)
  }
  order <- fitter$spots$order
  if (!identical(order, seq_len(nrow(functions)))) {
    functions <- functions[order, , drop = FALSE]
  }
  parts$functions <- NULL
  if (!is.null(run$workers)) {
    return(list(parts = parts, functions = functions))
  }
  tick <- steps_bar(run$progress, "Preparing genes")
  basis <- call_rust(rust_prepare_basis, fitter$test, functions, run$threads, tick, call = run$call)
  list(parts = parts, basis = basis)
}

is_sparse <- function(input) {
  input$storage %in%
    c("sparse", "by_spot", "h5_columns") ||
    (input$storage == "delayed" && DelayedArray::is_sparse(input$values))
}

#' Fit the genes of one sparse block
#'
#' @param raw Spots × genes, a dgCMatrix.
#' @inheritParams fit_block
#' @noRd
fit_sparse_block <- function(fitter, raw, genes, normalizer, run, tick = no_tick) {
  sparse <- diff(raw@p) <= most_entries * nrow(raw)
  if (!all(sparse)) {
    parts <- list()
    if (any(sparse)) {
      parts[[1L]] <- fit_sparse_block(
        fitter,
        raw[, sparse, drop = FALSE],
        genes[sparse],
        normalizer,
        run,
        tick
      )
    }
    dense <- as.matrix(raw[, !sparse, drop = FALSE])
    dimnames(dense) <- NULL
    parts[[length(parts) + 1L]] <- fit_block(fitter, dense, genes[!sparse], normalizer, run, tick)
    return(in_order(bind_fits(parts), order(c(which(sparse), which(!sparse))), fitter$groups))
  }
  status <- gene_status(raw)
  made <- fitter$combinations$parts$block(raw, genes)
  entries <- made$entries
  order <- fitter$spots$order
  if (!identical(order, seq_len(nrow(entries)))) {
    entries <- entries[order, , drop = FALSE]
  }
  fit <- call_rust(
    rust_fit_combined,
    fitter$test,
    fitter$combinations$basis,
    as.double(made$coefficients),
    entries@p,
    entries@i,
    entries@x,
    run$threads,
    call = run$call
  )
  # its values are not: it is what is left of them
  status[status == "ok" & fit$status == "constant"] <- "explained"
  bad <- status != "ok"
  fit$status[bad] <- status[bad]
  tick(length(genes))
  fit
}

#' A normalizer's functions, and how it makes a block's coefficients and entries
#'
#' @param normalizer From `new_normalizer()`.
#' @param input A `patina_input`.
#' @returns `NULL` if it has none, or a list: `functions` (spots × functions), and `block`, a function of a
#'   raw block (a dgCMatrix of spots × genes) and the genes' indices that gives `coefficients` (functions ×
#'   samples × genes) and `entries` (a dgCMatrix, spots × genes).
#' @noRd
combination_parts <- function(normalizer, input) {
  made <- attr(normalizer, "combinations")
  if (is.null(made)) NULL else made(as.integer(input$sample_id %||% rep(1L, input$n_spots)))
}

#' Values that are 0 at zero counts
#' @noRd
plain_zeros <- function() {
  list(entries = \(raw, genes) raw@x)
}

#' Functions for values that are regressed
#'
#' @param zero A list: `functions` of the values at zero counts (spots × functions, or `NULL`),
#'   `coefficients`, a function of the genes' indices (functions × samples × genes), and `entries`, a function
#'   of a block and the indices: what values are beside the functions, at the block's entries.
#' @param regress From `new_regression()`.
#' @param groups The sample of each spot, from 1.
#' @noRd
regressed_combinations <- function(zero, regress, groups) {
  # what is regressed, and what is subtracted for it
  model <- if (identical(regress, identity)) NULL else as.list(environment(regress))[c("basis", "effects")]
  samples <- max(groups)
  count <- NCOL(zero$functions %||% matrix(0, 0L, 0L))
  across <- if (!is.null(model) && count > 0L) {
    lapply(seq_len(samples), \(s) {
      crossprod(model$basis[groups == s, , drop = FALSE], zero$functions[groups == s, , drop = FALSE])
    })
  }
  block <- function(raw, genes) {
    entries <- raw
    entries@x <- zero$entries(raw, genes)
    coefficients <- if (count > 0L) zero$coefficients(genes) else array(0, c(0L, samples, length(genes)))
    if (!is.null(model)) {
      slopes <- as.matrix(Matrix::crossprod(model$basis, entries))
      for (s in seq_along(across)) {
        slopes <- slopes + across[[s]] %*% matrix(coefficients[, s, ], count)
      }
      effects <- NCOL(model$effects)
      joined <- array(0, c(count + effects, samples, length(genes)))
      joined[seq_len(count), , ] <- coefficients
      for (s in seq_len(samples)) {
        joined[count + seq_len(effects), s, ] <- -slopes
      }
      coefficients <- joined
    }
    list(coefficients = coefficients, entries = entries)
  }
  list(functions = cbind(zero$functions, model$effects), block = block)
}
