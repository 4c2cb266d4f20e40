# The only file that knows the classes of input. Everything after it works on a `patina_input`.

#' Bring any supported input into one form
#'
#' Importing the class loads Matrix, and with it the methods for sparse blocks, in every process.
#'
#' @importClassesFrom Matrix dgCMatrix
#' @param x Expression: a data.frame (spots in rows), a matrix, sparse Matrix or DelayedMatrix
#'   (genes in rows), or a SummarizedExperiment and its descendants.
#' @param coords 1 to 3 coordinates for each spot: a data.frame, tibble, matrix or (one coordinate)
#'   vector; for a SummarizedExperiment also the names of columns of its colData. `NULL` if `x`
#'   carries them.
#' @param assay Name or number of the assay of a SummarizedExperiment.
#' @param sample_info One row per spot, for `covariates` and `sample_id`; by default the colData.
#' @param sample_id Which slide each spot belongs to: the name of a column of the sample table or
#'   one value per spot.
#' @param call The user's call, for errors.
#' @returns A list of class `patina_input`; rows follow the order of the spots in `x`:
#'   - `genes`, `spots`: names, "gene1", "spot1", ... if there are none;
#'   - `coords`: double matrix, spots × 1..3, with column names;
#'   - `samples`: data.frame, a row for each spot;
#'   - `sample_id`: factor, or `NULL` if there is one sample;
#'   - `values`: the expression, and `storage`, how it is kept: "columns" (a list of genes), "dense"
#'     (genes × spots), "sparse" (dgCMatrix of spots × genes), "delayed" (genes × spots);
#'   - `spots_in_rows`: whether `x` had them there.
#' @noRd
as_input <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  UseMethod("as_input")
}

#' @export
as_input.data.frame <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  spots <- own_row_names(x)
  genes <- names(x)
  columns <- as.list(as.data.frame(x))
  check_numeric_columns(columns, spots, coords, call)
  new_input(
    values = unname(columns),
    storage = "columns",
    genes = genes,
    spots = spots,
    n_spots = nrow(x),
    coords = coords,
    sample_info = sample_info,
    sample_id = sample_id,
    call = call
  )
}

#' @export
as_input.matrix <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  if (!is.numeric(x)) {
    abort_patina(
      c(
        "{.arg x} must be a matrix of numbers, not of type {.cls {typeof(x)}}.",
        i = "A column of names turns {.fn as.matrix}'s result into text: move the names into the
          row names first."
      ),
      class = "input",
      call = call
    )
  }
  new_input(
    values = x,
    storage = "dense",
    genes = rownames(x),
    spots = colnames(x),
    n_spots = ncol(x),
    coords = coords,
    sample_info = sample_info,
    sample_id = sample_id,
    call = call
  )
}

#' @export
as_input.Matrix <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  if (!methods::is(x, "sparseMatrix") && !methods::is(x, "diagonalMatrix")) {
    return(as_input(
      as.matrix(x),
      coords,
      sample_info = sample_info,
      sample_id = sample_id,
      call = call
    ))
  }
  new_input(
    # transposed when the rest has been checked, so that a gene is a column
    values = x,
    storage = "sparse",
    genes = rownames(x),
    spots = colnames(x),
    n_spots = ncol(x),
    coords = coords,
    sample_info = sample_info,
    sample_id = sample_id,
    call = call
  )
}

#' @export
as_input.DelayedMatrix <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  rlang::check_installed("DelayedArray", call = call)
  type <- DelayedArray::type(x)
  if (!type %in% c("integer", "double")) {
    abort_patina(
      "{.arg x} must hold numbers, not values of type {.cls {type}}.",
      class = "input",
      call = call
    )
  }
  new_input(
    values = x,
    storage = "delayed",
    genes = rownames(x),
    spots = colnames(x),
    n_spots = ncol(x),
    coords = coords,
    sample_info = sample_info,
    sample_id = sample_id,
    call = call
  )
}

#' @export
as_input.SummarizedExperiment <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  rlang::check_installed("SummarizedExperiment", call = call)
  values <- get_assay(x, assay, call)
  # the names of the experiment, which an assay need not repeat
  dimnames(values) <- dimnames(x)
  col_data <- SummarizedExperiment::colData(x) |>
    unname_rows() |>
    as.data.frame(optional = TRUE)
  is_spatial <- inherits(x, "SpatialExperiment")

  if (is.null(coords) && is_spatial) {
    coords <- unname_rows(SpatialExperiment::spatialCoords(x))
    if (ncol(coords) == 0L) {
      abort_patina(
        c(
          "{.arg x} has no spatial coordinates: {.fn spatialCoords} has no columns.",
          i = "Set {.code spatialCoords(x)}, or give {.arg coords}."
        ),
        class = "coords",
        call = call
      )
    }
  } else if (is.character(coords) && is.null(dim(coords))) {
    missing <- setdiff(coords, names(col_data))
    if (length(missing) > 0L) {
      abort_patina(
        c(
          "{.arg coords} names {.val {first_few(missing)}}, which {.code colData(x)} does not
            have.",
          i = "Its columns are {.val {first_few(names(col_data), 10L)}}."
        ),
        class = "coords",
        call = call
      )
    }
    coords <- unname_rows(col_data[coords])
  } else if (is.null(coords)) {
    abort_patina(
      c(
        "{.arg coords} is missing, and a {.cls {class(x)[1]}} carries no coordinates.",
        i = "Give a table with one row per spot, or the names of two columns of {.code colData(x)}:
          {.code coords = c(\"x\", \"y\")}.",
        i = "A {.cls SpatialExperiment} carries its own."
      ),
      class = "coords",
      call = call
    )
  }

  if (is.null(sample_id) && is_spatial && !is.null(col_data[["sample_id"]])) {
    sample_id <- col_data[["sample_id"]]
  }
  if (is.null(sample_info)) {
    sample_info <- unname_rows(col_data)
  }
  as_input(
    values,
    coords,
    sample_info = sample_info,
    sample_id = sample_id,
    call = call
  )
}

#' @export
as_input.default <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  # the sparse arrays of newer Bioconductor releases
  if (methods::is(x, "SparseMatrix")) {
    return(as_input(
      methods::as(x, "CsparseMatrix"),
      coords,
      sample_info = sample_info,
      sample_id = sample_id,
      call = call
    ))
  }
  abort_patina(
    c(
      "{.arg x} has class {.cls {class(x)}}, which patina does not know.",
      i = "Give a data.frame (spots in rows), or a matrix, sparse Matrix or DelayedMatrix (genes in
        rows), or a SummarizedExperiment, SingleCellExperiment or SpatialExperiment.",
      i = if (inherits(x, "Seurat")) {
        "From a Seurat object take {.code Seurat::GetAssayData()} and
          {.code Seurat::GetTissueCoordinates()}."
      }
    ),
    class = "input",
    call = call
  )
}

# Blocks of genes -------------------------------------------------------------------------------

#' A block of genes, dense
#'
#' @param input A `patina_input`.
#' @param genes Indices of genes.
#' @returns A double matrix of spots × genes without names.
#' @noRd
input_block <- function(input, genes) {
  block <- switch(
    input$storage,
    columns = vapply(
      input$values[genes],
      as.double,
      numeric(length(input$spots))
    ),
    dense = t(input$values[genes, , drop = FALSE]),
    sparse = as.matrix(input$values[, genes, drop = FALSE]),
    delayed = t(as.matrix(input$values[genes, , drop = FALSE]))
  )
  if (!is.double(block)) {
    storage.mode(block) <- "double"
  }
  dimnames(block) <- NULL
  block
}

#' A block of genes, sparse
#'
#' @inheritParams input_block
#' @returns A dgCMatrix of spots × genes, or `NULL` if the input is not sparse.
#' @noRd
input_sparse_block <- function(input, genes) {
  switch(
    input$storage,
    sparse = input$values[, genes, drop = FALSE],
    delayed = if (DelayedArray::is_sparse(input$values)) {
      Matrix::t(as_dgc(methods::as(
        input$values[genes, , drop = FALSE],
        "dgCMatrix"
      )))
    }
  )
}

#' Cut the genes into blocks that are read one at a time
#'
#' @param input A `patina_input`.
#' @param max_values How many values a dense block may hold (the default is 64 MB); delayed input
#'   keeps to
#'   DelayedArray's own grid, which follows the file's chunks.
#' @returns A list of index vectors, in order, that cover all genes.
#' @noRd
gene_blocks <- function(input, max_values = 8e6) {
  n_genes <- length(input$genes)
  if (input$storage == "delayed") {
    grid <- DelayedArray::rowAutoGrid(input$values)
    ends <- cumsum(DelayedArray::dims(grid)[, 1L])
    return(Map(seq.int, c(1L, utils::head(ends, -1L) + 1L), ends))
  }
  size <- max(1L, as.integer(max_values %/% length(input$spots)))
  starts <- seq.int(1L, n_genes, by = size)
  Map(seq.int, starts, pmin(starts + size - 1L, n_genes))
}

# The parts ------------------------------------------------------------------------------------

new_input <- function(
  values,
  storage,
  genes,
  spots,
  n_spots,
  coords,
  sample_info,
  sample_id,
  call
) {
  spots_in_rows <- storage == "columns"
  n_genes <- if (spots_in_rows) length(values) else nrow(values)
  if (is.null(coords)) {
    abort_patina(
      c(
        "{.arg coords} is missing.",
        i = "Give a table with one row per spot and 1 to 3 columns; only a {.cls SpatialExperiment}
          carries its own."
      ),
      class = "coords",
      call = call
    )
  }
  coords <- as_coords(coords, call)
  check_shape(coords, genes, spots, n_genes, n_spots, spots_in_rows, call)
  if (n_genes == 0L) {
    abort_patina("{.arg x} has no genes.", class = "input", call = call)
  }
  coords <- match_spots(coords, spots, call)
  known <- spots %||% rownames(coords) %||% paste0("spot", seq_len(n_spots))
  genes <- genes %||% paste0("gene", seq_len(n_genes))
  rownames(coords) <- NULL

  samples <- as_samples(sample_info, spots, n_spots, call)
  sample_id <- as_sample_id(sample_id, samples, spots, n_spots, call)
  check_locations(coords, known, sample_id, call)

  duplicated <- unique(genes[duplicated(genes)])
  if (length(duplicated) > 0L) {
    warn_patina(
      c(
        "{length(duplicated)} gene name{?s} occur{?s/} more than once:
          {.val {first_few(duplicated)}}.",
        i = "Every row is kept; results are told apart by their order only."
      ),
      class = "duplicated_genes"
    )
  }
  if (storage == "sparse") {
    values <- Matrix::t(as_dgc(values))
    dimnames(values) <- list(NULL, NULL)
  } else if (storage == "dense") {
    values <- unname(values)
  }
  structure(
    list(
      genes = genes,
      spots = known,
      coords = coords,
      samples = samples,
      sample_id = sample_id,
      values = values,
      storage = storage,
      spots_in_rows = spots_in_rows
    ),
    class = "patina_input"
  )
}

#' Row names that somebody gave: those of a data.frame are often just its row numbers
#' @noRd
own_row_names <- function(x) {
  if (is.data.frame(x) && .row_names_info(x) <= 0L) NULL else rownames(x)
}

unname_rows <- function(x) {
  rownames(x) <- NULL
  x
}

#' Any sparse Matrix as a dgCMatrix
#' @noRd
as_dgc <- function(x) {
  if (inherits(x, "dgCMatrix")) {
    return(x)
  }
  x |>
    methods::as("dMatrix") |>
    methods::as("generalMatrix") |>
    methods::as("CsparseMatrix")
}

get_assay <- function(x, assay, call) {
  available <- SummarizedExperiment::assayNames(x)
  n_assays <- length(SummarizedExperiment::assays(x))
  known <- if (rlang::is_string(assay)) {
    assay %in% available
  } else {
    rlang::is_integerish(assay, n = 1L, finite = TRUE) &&
      assay >= 1 &&
      assay <= n_assays
  }
  if (!known) {
    abort_patina(
      c(
        "{.arg x} has no assay {.val {assay}}.",
        i = if (length(available) > 0L) {
          "Its assays are {.val {first_few(available, 10L)}}: choose one by {.arg assay}."
        } else {
          "Its {n_assays} assay{?s} {?has/have} no names: give {.arg assay} as a number."
        }
      ),
      class = "argument",
      call = call
    )
  }
  SummarizedExperiment::assay(x, assay, withDimnames = FALSE)
}

is_number <- function(column) {
  # the bits of an integer64 are not a double's
  is.numeric(column) && !inherits(column, "integer64") && NCOL(column) == 1L
}

#' "name (class)" of the columns that are not numbers
#' @noRd
not_numbers <- function(columns) {
  bad <- !vapply(columns, is_number, logical(1L))
  classes <- vapply(columns[bad], \(column) class(column)[1L], "")
  list(
    which = unname(which(bad)),
    label = sprintf("%s (%s)", names(columns)[bad], classes)
  )
}

check_numeric_columns <- function(columns, spots, coords, call) {
  bad <- not_numbers(columns)
  if (length(bad$which) == 0L) {
    return(invisible())
  }
  first <- columns[[1L]]
  looks_like_names <- identical(bad$which[1L], 1L) &&
    (is.character(first) || is.factor(first)) &&
    anyDuplicated(first) == 0L
  matches <- looks_like_names &&
    all(as.character(first) %in% own_row_names(as_table(coords)))
  abort_patina(
    c(
      "{.arg x} has {length(bad$which)} column{?s} that {?is/are} not numeric:
        {.field {first_few(bad$label)}}.",
      i = if (looks_like_names) {
        paste(
          if (matches) {
            "The first column holds the names of the spots."
          } else {
            "The first column looks like names."
          },
          "Move it into the row names:
            {.code x <- data.frame(x[-1], row.names = x[[1]], check.names = FALSE)}."
        )
      } else {
        "Keep one column of numbers for each gene; other facts about the spots belong into
          {.arg sample_info}."
      }
    ),
    class = "input",
    call = call
  )
}

# a table to look names up in, whatever `coords` is
as_table <- function(coords) {
  if (is.null(dim(coords))) data.frame() else coords
}

as_coords <- function(coords, call) {
  if (is.null(dim(coords)) && is.atomic(coords)) {
    coords <- data.frame(x = coords, row.names = names_if_unique(coords))
  } else if (methods::is(coords, "DataFrame")) {
    coords <- as.data.frame(coords, optional = TRUE)
  } else if (methods::is(coords, "Matrix")) {
    coords <- as.matrix(coords)
  }
  if (length(dim(coords)) != 2L) {
    abort_patina(
      c(
        "{.arg coords} has class {.cls {class(coords)}}.",
        i = "Give a data.frame or matrix with one row per spot and 1 to 3 numeric columns."
      ),
      class = "coords",
      call = call
    )
  }
  spots <- own_row_names(coords)
  table <- as.list(as.data.frame(coords))
  bad <- not_numbers(table)
  if (length(bad$which) > 0L) {
    abort_patina(
      c(
        "{.arg coords} has {length(bad$which)} column{?s} that {?is/are} not numeric:
          {.field {first_few(bad$label)}}.",
        i = "Keep the coordinates only; names of spots belong into the row names."
      ),
      class = "coords",
      call = call
    )
  }
  if (!length(table) %in% 1:3) {
    abort_patina(
      c(
        "{.arg coords} must have 1, 2 or 3 columns, not {length(table)}.",
        i = if (length(table) > 3L) {
          "Choose the coordinates, for example {.code coords[, c(\"x\", \"y\")]}."
        }
      ),
      class = "coords",
      call = call
    )
  }
  names <- colnames(coords)
  if (is.null(names) || anyNA(names) || any(names == "")) {
    names <- c("x", "y", "z")[seq_along(table)]
  }
  if (
    length(names) == 3L &&
      any(grepl(
        "count|total|umi|sum|depth|size",
        names[3L],
        ignore.case = TRUE
      ))
  ) {
    warn_patina(
      c(
        "The third column of {.arg coords}, {.field {names[3]}}, is taken as a coordinate.",
        i = "If it is not one: {.code coords[, c(\"{names[1]}\", \"{names[2]}\")]}."
      ),
      class = "third_coordinate"
    )
  }
  matrix(
    as.double(unlist(table, use.names = FALSE)),
    ncol = length(table),
    dimnames = list(spots, names)
  )
}

names_if_unique <- function(x) {
  if (is.null(names(x)) || anyDuplicated(names(x))) NULL else names(x)
}

#' Number of spots in `x` and `coords`; tells a transposed `x` from a wrong one
#' @noRd
check_shape <- function(
  coords,
  genes,
  spots,
  n_genes,
  n_spots,
  spots_in_rows,
  call
) {
  n <- nrow(coords)
  named <- rownames(coords)
  other_way <- if (!is.null(named) && !is.null(spots) && !is.null(genes) && n_genes > 0L) {
    !any(named %in% spots) && mean(named %in% genes) > 0.5
  } else {
    n_spots != n && n_genes == n
  }
  if (other_way) {
    abort_patina(
      c(
        "{.arg x} looks transposed: the {n} rows of {.arg coords} match its
          {if (spots_in_rows) 'columns' else 'rows'}.",
        i = if (spots_in_rows) {
          "A data.frame has spots in rows and genes in columns; a matrix the other way round: use
            {.code as.matrix(x)}."
        } else {
          "A matrix has genes in rows and spots in columns: use {.code t(x)}."
        }
      ),
      class = "transposed",
      call = call
    )
  }
  if (n_spots != n && (is.null(named) || is.null(spots))) {
    abort_patina(
      c(
        "{.arg x} has {n_spots} spot{?s} ({if (spots_in_rows) 'row' else 'column'}{?s}) and
          {.arg coords} has {n} row{?s}.",
        i = "Give one row of coordinates for each spot, in the same order or with the same names."
      ),
      class = "coords",
      call = call
    )
  }
}

#' The rows of a table in the order of the spots: by name if both have names, else as they are
#' @noRd
match_spots <- function(table, spots, call, arg = "coords") {
  named <- own_row_names(table)
  if (is.null(spots) || is.null(named) || identical(named, spots)) {
    return(table)
  }
  repeated <- unique(c(spots[duplicated(spots)], named[duplicated(named)]))
  if (length(repeated) > 0L) {
    abort_patina(
      c(
        "Spots cannot be matched by name, because some names occur more than once:
          {.val {first_few(repeated)}}.",
        i = "If {.arg x} and {.arg {arg}} are in the same order: {.code rownames({arg}) <- NULL}."
      ),
      class = "names",
      call = call
    )
  }
  only_x <- setdiff(spots, named)
  only_table <- setdiff(named, spots)
  if (length(only_x) + length(only_table) > 0L) {
    abort_patina(
      c(
        "The names of the spots in {.arg x} and {.arg {arg}} differ.",
        x = if (length(only_x) > 0L) {
          "{length(only_x)} of {length(spots)} only in {.arg x}: {.val {first_few(only_x)}}."
        },
        x = if (length(only_table) > 0L) {
          "{length(only_table)} of {length(named)} only in {.arg {arg}}:
            {.val {first_few(only_table)}}."
        },
        i = "Keep the spots that both have.",
        i = if (length(named) == length(spots)) {
          "If both are in the same order, drop one side's names: {.code rownames({arg}) <- NULL}."
        }
      ),
      class = "names",
      call = call
    )
  }
  table[match(spots, named), , drop = FALSE]
}

as_samples <- function(sample_info, spots, n_spots, call) {
  if (is.null(sample_info)) {
    return(data.frame(row.names = seq_len(n_spots)))
  }
  if (methods::is(sample_info, "DataFrame")) {
    sample_info <- as.data.frame(sample_info, optional = TRUE)
  }
  if (!is.data.frame(sample_info)) {
    abort_patina(
      "{.arg sample_info} must be a data.frame with one row per spot, not of class
        {.cls {class(sample_info)}}.",
      class = "argument",
      call = call
    )
  }
  named <- own_row_names(sample_info)
  if (nrow(sample_info) != n_spots && (is.null(spots) || is.null(named))) {
    abort_patina(
      "{.arg sample_info} has {nrow(sample_info)} row{?s}, but {.arg x} has {n_spots} spot{?s}.",
      class = "argument",
      call = call
    )
  }
  samples <- sample_info |>
    keep_row_names(named) |>
    match_spots(spots, call, arg = "sample_info")
  unname_rows(samples)
}

# a plain data.frame, without groups, and with row names only if somebody gave them
keep_row_names <- function(table, named) {
  table <- as.data.frame(table)
  rownames(table) <- named
  table
}

as_sample_id <- function(sample_id, samples, spots, n_spots, call) {
  if (is.null(sample_id)) {
    return(NULL)
  }
  if (rlang::is_string(sample_id) && n_spots > 1L) {
    if (!sample_id %in% names(samples)) {
      abort_patina(
        c(
          "{.arg sample_id} names the column {.val {sample_id}}, which the sample table does not
            have.",
          i = if (ncol(samples) > 0L) {
            "Its columns are {.val {first_few(names(samples), 10L)}}."
          } else {
            "Give the table as {.arg sample_info}, or one value per spot."
          }
        ),
        class = "argument",
        call = call
      )
    }
    sample_id <- samples[[sample_id]]
  } else if (!is.atomic(sample_id) || length(sample_id) != n_spots) {
    abort_patina(
      c(
        "{.arg sample_id} must be the name of a column of the sample table or have one value per
          spot.",
        x = "It has {length(sample_id)} value{?s}; {.arg x} has {n_spots} spot{?s}."
      ),
      class = "argument",
      call = call
    )
  } else if (!is.null(names_if_unique(sample_id))) {
    table <- data.frame(id = sample_id, row.names = names(sample_id))
    sample_id <- match_spots(table, spots, call, arg = "sample_id")$id
  }
  if (anyNA(sample_id)) {
    abort_patina(
      "{.arg sample_id} is missing for {sum(is.na(sample_id))} spot{?s}.",
      class = "argument",
      call = call
    )
  }
  sample_id <- factor(unname(sample_id))
  if (nlevels(sample_id) > 1L) sample_id else NULL
}

check_locations <- function(coords, spots, sample_id, call) {
  bad <- which(!rowSums(is.finite(coords)) == ncol(coords))
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "{.arg coords} is not finite for {length(bad)} spot{?s}: {.val {first_few(spots[bad])}}.",
        i = "Remove these spots from {.arg x} and {.arg coords}."
      ),
      class = "coords",
      call = call
    )
  }
  rows <- split(
    seq_along(spots),
    sample_id %||% factor(rep("all", length(spots)))
  )
  few <- names(rows)[lengths(rows) < 5L]
  if (length(spots) == 0L || length(few) > 0L) {
    message <- if (is.null(sample_id)) {
      "At least 5 spots are needed, and {.arg x} has {length(spots)}."
    } else {
      "At least 5 spots are needed in each sample, and {.val {few[1]}} has {lengths(rows)[few[1]]}."
    }
    abort_patina(message, class = "too_few_spots", call = call)
  }
  is_same <- vapply(
    rows,
    \(i) all(coords[i, ] == rep(coords[i[1L], ], each = length(i))),
    logical(1L)
  )
  same <- names(rows)[is_same]
  if (length(same) > 0L) {
    message <- if (is.null(sample_id)) {
      "All {length(spots)} spots have the same coordinates: at least two must differ."
    } else {
      "All spots of sample {.val {same[1]}} have the same coordinates: at least two must differ."
    }
    abort_patina(message, class = "coords", call = call)
  }
}
