# Results' way into AnnData files, as anndata's on-disk format has them.

add_to_h5ad <- function(path, added, ..., file = NULL, overwrite = FALSE, call = rlang::caller_env()) {
  checked(rlang::check_dots_empty(call = call))
  check_flag(overwrite, call = call)
  check_new_file(file, overwrite, call, path)
  genes <- h5ad_index(path, "var")
  columns <- columns_of_genes(added, genes, length(genes), call)
  if (!is.null(added$spots)) {
    spots <- h5ad_index(path, "obs")
    table <- h5ad_table(path, "obs", h5_contents(path, call))
    values <- columns_of_spots(added, spots, length(spots), table, call)
  }
  # complete, beside where it belongs, before it takes its name
  draft <- tempfile("patina-", dirname(file), fileext = ".h5ad")
  on.exit(unlink(draft))
  if (!file.copy(path, draft, copy.mode = FALSE)) {
    abort_patina("{.path {file}} cannot be written.", class = "argument", call = call)
  }
  old <- h5ad_column_order(draft, "var")
  write_h5ad_columns(draft, "var", columns, remove = old[is_stale(old, columns, added)])
  if (!is.null(added$spots)) {
    old <- h5ad_column_order(draft, "obs")
    write_h5ad_columns(draft, "obs", values, remove = old[is_stale(old, values, added)])
  }
  if (!file.rename(draft, file)) {
    abort_patina("{.path {file}} cannot be written.", class = "argument", call = call)
  }
  invisible(file)
}

#' Check the name of a file to be written
#' @noRd
check_new_file <- function(file, overwrite, call, source = NULL) {
  if (!rlang::is_string(file) || !grepl("[.]h5ad$", file, ignore.case = TRUE)) {
    abort_patina(
      c(
        "{.arg file} must be the path of an {.file .h5ad} file to write.",
        i = "The file that is read is not changed: results go into a copy."
      ),
      class = "argument",
      call = call
    )
  }
  if (!is.null(source) && normalizePath(file, mustWork = FALSE) == normalizePath(source)) {
    abort_patina("{.arg file} is the file that is read: give another name.", class = "argument", call = call)
  }
  if (file.exists(file) && !overwrite) {
    abort_patina(
      c("{.path {file}} exists.", i = "{.code overwrite = TRUE} replaces it."),
      class = "argument",
      call = call
    )
  }
  if (!dir.exists(dirname(file))) {
    abort_patina("There is no folder {.path {dirname(file)}}.", class = "argument", call = call)
  }
}

h5ad_column_order <- function(path, table) {
  as.character(h5_attributes(path, table)[["column-order"]])
}

#' Add columns to `var` or `obs`; those that are there are replaced
#' @noRd
write_h5ad_columns <- function(path, table, columns, remove = character()) {
  order <- h5ad_column_order(path, table)
  element <- function(name) paste0(table, "/", name)
  for (name in intersect(c(remove, names(columns)), order)) {
    rhdf5::h5delete(path, element(name))
  }
  for (name in names(columns)) {
    value <- columns[[name]]
    if (is.character(value) || is.factor(value)) {
      write_h5ad_categorical(path, element(name), as.factor(value))
    } else {
      write_h5ad_array(path, element(name), value)
    }
  }
  order <- union(setdiff(order, remove), names(columns))
  set_h5_attributes(path, table, list("column-order" = order))
}

#' @param value Numbers or strings.
#' @noRd
write_h5ad_array <- function(path, element, value) {
  n <- length(value)
  if (is.character(value)) {
    rhdf5::h5createDataset(
      path,
      element,
      n,
      storage.mode = "character",
      size = NULL,
      encoding = "UTF-8",
      level = 0
    )
    encoding <- "string-array"
  } else {
    # an integer has no missing value there
    if (anyNA(value)) {
      value <- as.double(value)
    }
    rhdf5::h5createDataset(path, element, n, storage.mode = storage.mode(value), level = 0)
    # R's NA is one of many NaN
    value[is.na(value)] <- NaN
    encoding <- "array"
  }
  rhdf5::h5write(value, path, element)
  set_h5_attributes(path, element, list("encoding-type" = encoding, "encoding-version" = "0.2.0"))
}

write_h5ad_categorical <- function(path, element, value) {
  rhdf5::h5createGroup(path, element)
  write_h5ad_array(path, paste0(element, "/categories"), levels(value))
  codes <- as.integer(value) - 1L
  codes[is.na(codes)] <- -1L
  write_h5ad_array(path, paste0(element, "/codes"), codes)
  set_h5_attributes(
    path,
    element,
    list("encoding-type" = "categorical", "encoding-version" = "0.2.0", ordered = 0L)
  )
}

#' Set attributes of a group or dataset; vectors of other lengths than 1 stay vectors
#' @noRd
set_h5_attributes <- function(path, element, attributes) {
  file <- rhdf5::H5Fopen(path)
  on.exit(rhdf5::H5Fclose(file))
  object <- rhdf5::H5Oopen(file, element)
  on.exit(rhdf5::H5Oclose(object), add = TRUE, after = FALSE)
  for (name in names(attributes)) {
    value <- attributes[[name]]
    if (rhdf5::H5Aexists(object, name)) {
      rhdf5::H5Adelete(object, name)
    }
    if (is.character(value)) {
      rhdf5::h5writeAttribute(
        value,
        object,
        name,
        encoding = "UTF-8",
        variableLengthString = TRUE,
        asScalar = name != "column-order"
      )
    } else {
      rhdf5::h5writeAttribute(value, object, name, asScalar = TRUE)
    }
  }
}
