# AnnData files (.h5ad), as anndata 0.7 and later documents them: the part of input.R that reads HDF5.
# add_to_h5ad.R writes it.

read_h5ad <- function(x, assay, arg, call, layer = NULL, progress = FALSE, ...) {
  path <- check_h5ad(x, arg, call)
  contents <- h5_contents(path, call)
  element <- h5ad_element(layer %||% assay, is.null(layer), contents, arg, call)
  genes <- h5ad_index(path, "var")
  spots <- h5ad_index(path, "obs")
  expression <- h5ad_values(path, element, contents, genes, spots, call, progress)
  expression$class <- "AnnData"
  expression$samples <- h5ad_table(path, "obs", contents)
  expression$places <- h5ad_places(path, contents)
  expression$coords <- expression$places[["spatial"]]
  expression$sample_id <- h5ad_libraries(contents, expression$samples)
  expression
}

#' Check that `x` is the path of an AnnData file
#' @returns The path, absolute.
#' @noRd
check_h5ad <- function(x, arg, call) {
  if (!rlang::is_string(x) || !grepl("[.]h5ad$", x, ignore.case = TRUE)) {
    abort_patina(
      c(
        "{.arg {arg}} is text, but not the path of an {.file .h5ad} file: {.val {first_few(x, 1L)}}.",
        i = "A path names an AnnData file. Other data are given as objects."
      ),
      class = "input",
      call = call
    )
  }
  if (!file.exists(x)) {
    abort_patina("{.arg {arg}} names {.path {x}}: there is no such file.", class = "input", call = call)
  }
  checked(rlang::check_installed("rhdf5", "to read AnnData files.", call = call))
  normalizePath(x)
}

# The file's parts --------------------------------------------------------------------------------

#' What is in an HDF5 file: its paths, which of them are `group`s, and of what size
#' @noRd
h5_contents <- function(path, call) {
  list <- tryCatch(
    rhdf5::h5ls(path, all = FALSE),
    error = function(cnd) {
      abort_patina(
        c("{.path {path}} cannot be read as HDF5.", x = "{conditionMessage(cnd)}"),
        class = "input",
        call = call
      )
    }
  )
  data.frame(
    path = paste0(sub("/$", "", list$group), "/", list$name),
    group = list$otype == "H5I_GROUP",
    dim = list$dim
  )
}

#' Names of what is directly in a group
#' @noRd
h5_children <- function(contents, group) {
  inside <- startsWith(contents$path, paste0(group, "/"))
  name <- substring(contents$path[inside], nchar(group) + 2L)
  name[!grepl("/", name, fixed = TRUE)]
}

h5_attributes <- function(path, element) {
  # it warns of types that it does not know, which are of no use here
  suppressWarnings(rhdf5::h5readAttributes(path, element))
}

#' Part of a one-dimensional dataset; all of it without `start`
#' @noRd
h5_vector <- function(path, element, start = NULL, count = NULL) {
  as.vector(rhdf5::h5read(path, element, start = start, count = count, bit64conversion = "double"))
}

#' Which matrix of the file: "/X" or "/layers/NAME"
#'
#' By default `layers/counts`, where scanpy's users keep counts when X is normalised, else X.
#' @noRd
h5ad_element <- function(name, by_default, contents, arg, call) {
  layers <- h5_children(contents, "/layers")
  if (identical(name, "X") || (by_default && identical(name, "counts") && !"counts" %in% layers)) {
    return("/X")
  }
  if (!rlang::is_string(name) || !name %in% layers) {
    abort_patina(
      c(
        "{.arg {arg}} has no layer {.val {name}}.",
        i = "It has {.val {first_few(c('X', layers), 10L)}}: choose one by {.arg layer}."
      ),
      class = "argument",
      call = call
    )
  }
  if (by_default && identical(name, "counts")) {
    inform_patina("Taking the layer {.val counts} of {.arg {arg}}; {.code layer = \"X\"} takes X.")
  }
  paste0("/layers/", name)
}

#' Names of genes ("var") or spots ("obs")
#' @noRd
h5ad_index <- function(path, table) {
  name <- h5_attributes(path, table)[["_index"]] %||% "_index"
  as.character(h5ad_column(path, paste0(table, "/", name)))
}

#' A column of `obs` or `var`; NULL if it is of a kind that is not known
#' @noRd
h5ad_column <- function(path, element) {
  decode(suppressWarnings(rhdf5::h5read(path, element)))
}

decode <- function(value) {
  if (is.list(value) && !is.null(value$codes)) {
    codes <- as.integer(value$codes)
    codes[codes < 0L] <- NA
    levels <- as.character(decode(value$categories))
    return(factor(levels[codes + 1L], levels))
  }
  # numbers, strings and booleans that may be missing
  missing <- NULL
  if (is.list(value) && !is.null(value$mask)) {
    missing <- as.vector(value$mask) %in% c("TRUE", "1")
    value <- value$values
  }
  if (is.list(value) || length(dim(value)) > 1L || !is.atomic(value)) {
    return(NULL)
  }
  # booleans are an enumeration
  if (is.factor(value)) {
    value <- as.vector(value) == "TRUE"
  }
  value <- as.vector(value)
  value[missing] <- NA
  value
}

#' The columns of `obs` or `var` that can be read
#' @noRd
h5ad_table <- function(path, table, contents) {
  index <- h5_attributes(path, table)[["_index"]] %||% "_index"
  names <- setdiff(h5_children(contents, paste0("/", table)), c(index, "__categories"))
  columns <- lapply(names, \(name) h5ad_column(path, paste0(table, "/", name)))
  names(columns) <- names
  # anndata before 0.8 kept the levels of all factors together
  for (name in intersect(h5_children(contents, paste0("/", table, "/__categories")), names)) {
    levels <- as.character(h5_vector(path, paste0(table, "/__categories/", name)))
    codes <- columns[[name]]
    columns[[name]] <- factor(levels[ifelse(codes < 0L, NA, codes) + 1L], levels)
  }
  columns <- columns[lengths(columns) > 0L]
  if (length(columns) > 0L) as.data.frame(columns, optional = TRUE)
}

#' The matrices of `obsm` that may be coordinates: spots × 1 to 3
#' @noRd
h5ad_places <- function(path, contents) {
  inside <- startsWith(contents$path, "/obsm/") & !contents$group
  columns <- suppressWarnings(as.integer(sub(" x .*", "", contents$dim)))
  places <- contents$path[inside & columns %in% 1:3]
  values <- lapply(places, function(place) {
    place <- t(rhdf5::h5read(path, place))
    colnames(place) <- c("x", "y", "z")[seq_len(ncol(place))]
    place
  })
  stats::setNames(values, sub("^/obsm/", "", places))
}

#' Slides: the column of `obs` that names the libraries of `uns["spatial"]`, if there are several
#' @noRd
h5ad_libraries <- function(contents, samples) {
  libraries <- h5_children(contents, "/uns/spatial")
  if (length(libraries) < 2L) {
    return(NULL)
  }
  names_them <- vapply(samples, \(column) setequal(unique(as.character(column)), libraries), NA)
  column <- names(samples)[names_them]
  if (length(column) > 0L) {
    inform_patina("{length(libraries)} samples by {.code obs[\"{column[[1L]]}\"]}.")
    samples[[column[[1L]]]]
  }
}

# Values ------------------------------------------------------------------------------------------

#' The matrix of spots × genes as an expression
#'
#' Stored by gene (CSC) or dense it stays in the file, and blocks of genes are read. Stored by spot (CSR),
#' where a block of genes is all over the file, see stored_by_spot.R.
#' @noRd
h5ad_values <- function(path, element, contents, genes, spots, call, progress = FALSE) {
  n_genes <- length(genes)
  n_spots <- length(spots)
  expression <- function(values, storage) new_expression(values, storage, genes, spots, n_genes, n_spots)
  columns <- function(size) {
    start <- h5_vector(path, paste0(element, "/indptr"))
    list(path = path, element = element, start = start, size = size)
  }
  if (!contents$group[contents$path == element]) {
    checked(rlang::check_installed("HDF5Array", "to read a dense AnnData file.", call = call))
    return(expression(HDF5Array::HDF5Array(path, element), "delayed"))
  }
  attributes <- h5_attributes(path, element)
  format <- attributes[["encoding-type"]] %||% attributes[["h5sparse_format"]] %||% "unknown"
  switch(
    sub("_matrix$", "", format),
    csr = {
      by_spot <- columns(n_genes)
      stored <- file_by_gene(\(spots) h5_columns(by_spot, spots), n_genes, n_spots, progress = progress)
      expression(stored$values, stored$storage)
    },
    csc = expression(columns(n_spots), "h5_columns"),
    abort_patina(
      "{.path {path}} keeps {.val {element}} as {.val {format}}, which patina does not know.",
      class = "input",
      call = call
    )
  )
}

#' Columns of a sparse matrix, as they are stored, as a dgCMatrix
#'
#' @param values Where it is: `path`, `element`; `start`, where each column begins, from 0, and the end of the
#'   last; `size` of a column; `spots`, those that are wanted, or `NULL`: all.
#' @param which Their numbers.
#' @noRd
h5_columns <- function(values, which) {
  counts <- values$start[which + 1L] - values$start[which]
  # neighbours in the file are read together
  run <- cumsum(c(TRUE, diff(which) != 1L))
  read <- function(what) {
    parts <- lapply(split(which, run), function(which) {
      from <- values$start[[which[[1L]]]]
      n <- values$start[[which[[length(which)]] + 1L]] - from
      if (n > 0) h5_vector(values$path, paste0(values$element, "/", what), from + 1, n)
    })
    unlist(parts, use.names = FALSE)
  }
  i <- as.integer(read("indices"))
  x <- as.double(read("data"))
  column <- rep(seq_along(which), counts)
  if (is.unsorted(as.double(values$size) * column + i)) {
    # which scipy allows
    order <- order(column, i, method = "radix")
    i <- i[order]
    x <- x[order]
  }
  p <- as.integer(c(0, cumsum(counts)))
  block <- methods::new("dgCMatrix", i = i, p = p, x = x, Dim = c(as.integer(values$size), length(which)))
  if (is.null(values$spots)) block else block[values$spots, , drop = FALSE]
}
