# Sparse values that are stored by spot, as 10x Genomics' files and a dgCMatrix of genes × spots have them.
#
# A gene's values are all over them, so genes are not read one block after the other. Genes are cut into parts
# of as many as memory may hold; the part that was used last is kept, and a walk over the genes reads the
# values once for each part. Most often one part is all.

#' Values by gene of what is stored by spot
#'
#' @param entries How many values each gene has that are not zero.
#' @param read A function of a range of genes that gives them as a dgCMatrix of spots × genes.
#' @param most How many values a part may have, unless one gene has more.
#' @returns A list: `values`, and how they are kept, `storage`, "sparse" or "by_spot"; see
#'   `read_expression()`.
#' @noRd
by_gene <- function(entries, read, most) {
  part <- pmax(ceiling(cumsum(as.double(entries)) / most), 1)
  if (length(unique(part)) < 2L) {
    return(list(values = read(seq_along(entries)), storage = "sparse"))
  }
  values <- list(
    entries = entries,
    parts = unname(split(seq_along(entries), part)),
    read = read,
    kept = new.env()
  )
  list(values = values, storage = "by_spot")
}

#' Genes of values stored by spot, as a dgCMatrix of spots × genes
#' @noRd
genes_by_spot <- function(values, genes) {
  part <- rep(seq_along(values$parts), lengths(values$parts))[genes]
  blocks <- lapply(unique(part), function(i) {
    if (!identical(values$kept$part, i)) {
      # one at a time
      values$kept$block <- NULL
      values$kept$block <- values$read(values$parts[[i]])
      values$kept$part <- i
    }
    sparse_columns(values$kept$block, match(genes[part == i], values$parts[[i]]))
  })
  if (length(blocks) == 1L) {
    return(blocks[[1L]])
  }
  block <- do.call(cbind, blocks)
  found <- unlist(split(seq_along(genes), factor(part, unique(part))))
  block[, order(found), drop = FALSE]
}

# Where values ------------------------------------------------------------------------------------

# A dgCMatrix by spot is turned as a whole up to this many values, 360 MB; beyond in parts of as many.
turned_at_once <- 3e7

#' A dgCMatrix of genes × spots
#' @noRd
matrix_by_gene <- function(x, most = turned_at_once) {
  dimnames(x) <- list(NULL, NULL)
  read <- function(genes) {
    Matrix::t(if (length(genes) < nrow(x)) x[genes, , drop = FALSE] else x)
  }
  by_gene(tabulate(x@i + 1L, nrow(x)), read, most)
}

#' What is read in blocks of spots, as from a file
#'
#' One pass counts each gene's values, another one for each part fills it. The first one does if memory has
#' room for all values twice.
#'
#' @param read A function of a range of spots that gives them as a dgCMatrix of genes × spots.
#' @param most How many values memory has room for.
#' @param block About how many are read at a time.
#' @param progress Whether a bar shows how far that is.
#' @noRd
file_by_gene <- function(
  read,
  n_genes,
  n_spots,
  most = room_for_values(),
  block = 5e6,
  progress = FALSE
) {
  tick <- progress_bar(progress, "Reading spots", n_spots)
  turned <- function(spots) Matrix::t(read(spots))
  first <- seq_len(min(n_spots, 1000L))
  values <- turned(first)
  width <- max(block * length(first) / max(length(values@x), 1), 1)
  rest <- seq_len(n_spots)[-first]
  blocks <- c(list(first), unname(split(rest, (seq_along(rest) - 1) %/% width)))
  kept <- list(values)
  entries <- diff(values@p)
  room <- TRUE
  tick(length(first))
  for (k in seq_along(blocks)[-1L]) {
    values <- turned(blocks[[k]])
    tick(length(blocks[[k]]))
    entries <- entries + diff(values@p)
    room <- room && 2 * sum(entries) <= most
    kept <- if (room) c(kept, list(values))
  }
  rm(values)
  part <- function(genes) {
    tick <- progress_bar(progress, "Sorting values by gene", n_spots)
    size <- entries[genes]
    ends <- cumsum(size)
    at <- ends - size
    i <- integer(sum(size))
    x <- double(sum(size))
    for (k in seq_along(blocks)) {
      values <- if (is.null(kept)) turned(blocks[[k]])[, genes, drop = FALSE] else kept[[k]]
      if (!is.null(kept)) {
        # memory for what is filled
        kept[k] <<- list(NULL)
      }
      size <- diff(values@p)
      to <- rep(at, size) + sequence(size)
      i[to] <- values@i + (blocks[[k]][[1L]] - 1L)
      x[to] <- values@x
      at <- at + size
      tick(length(blocks[[k]]))
    }
    methods::new("dgCMatrix", i = i, p = as.integer(c(0, ends)), x = x, Dim = c(n_spots, length(genes)))
  }
  by_gene(entries, part, most)
}

#' How many values there is memory for, with as much again for the work on them
#' @noRd
room_for_values <- function() {
  min(call_rust(rust_available_memory) / 24, .Machine$integer.max)
}

#' Is a sparse DelayedMatrix stored by spot?
#'
#' Chunks of 10x Genomics' files hold all genes of a spot; what has no chunks is in memory, by column.
#' @noRd
delayed_by_spot <- function(x) {
  cut <- stored_cut(x)
  DelayedArray::is_sparse(x) && !cut[[1L]] && cut[[2L]]
}

#' Whether rows, and columns, are apart from each other where a DelayedMatrix has its values
#' @noRd
stored_cut <- function(x) {
  chunk <- DelayedArray::chunkdim(x)
  if (length(chunk) == 2L) {
    return(chunk < dim(x))
  }
  # subsets, and what is bound of several, have no chunks of their own
  inner <- if (methods::.hasSlot(x, "seeds")) {
    x@seeds[[1L]]
  } else if (methods::.hasSlot(x, "seed")) {
    x@seed
  }
  if (length(dim(inner)) != 2L) {
    return(c(FALSE, TRUE))
  }
  cut <- stored_cut(inner)
  if (methods::is(x, "DelayedAperm")) rev(cut) else cut
}
