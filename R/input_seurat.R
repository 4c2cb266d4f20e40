# Seurat objects: the part of input.R that knows assays, layers and images of SeuratObject, versions 4 and 5.

read_seurat <- function(x, assay, arg, call, layer = NULL, image = NULL, fov = NULL, carried = TRUE, ...) {
  checked(rlang::check_installed("SeuratObject", "to read Seurat objects.", call = call))
  images <- seurat_images(x, image %||% fov, if (is.null(image)) "fov" else "image", call)
  assay <- seurat_assay(x, assay, images, arg, call)
  values <- seurat_layer(x[[assay]], layer %||% "counts", assay, arg, call)
  places <- if (carried) seurat_places(x, images, colnames(values), call)
  cells <- colnames(values)
  if (!is.null(places)) {
    cells <- cells[cells %in% places$cell]
    values <- values[, cells, drop = FALSE]
    places <- places[match(cells, places$cell), ]
  }
  expression <- read_expression(values, arg = arg, call = call, ...)
  expression$class <- "Seurat"
  expression$samples <- unname_rows(x[[]][cells, , drop = FALSE])
  if (!is.null(places)) {
    expression$coords <- unname_rows(as.matrix(places[setdiff(names(places), c("cell", "image"))]))
    expression$sample_id <- places$image
  }
  expression
}

#' The images (slides, fields of view) to take, all by default
#' @noRd
seurat_images <- function(x, chosen, arg, call) {
  known <- SeuratObject::Images(x)
  absent <- setdiff(chosen, known)
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{.arg {arg}} names {.val {first_few(absent)}}, which {.arg x} does not have.",
        i = "Its images are {.val {first_few(known, 10L)}}."
      ),
      class = "argument",
      call = call
    )
  }
  chosen %||% known
}

#' The assay's name: the user's, else the one that the images belong to, else the default one
#'
#' After SCTransform the default assay holds corrected counts, the images' one those that were measured.
#' @noRd
seurat_assay <- function(x, assay, images, arg, call) {
  known <- SeuratObject::Assays(x)
  if (rlang::is_string(assay) && assay %in% known) {
    return(assay)
  }
  if (!identical(assay, "counts")) {
    abort_patina(
      c(
        "{.arg {arg}} has no assay {.val {assay}}.",
        i = "Its assays are {.val {first_few(known, 10L)}}: choose one by {.arg assay}."
      ),
      class = "argument",
      call = call
    )
  }
  own <- if (length(images) > 0L) SeuratObject::DefaultAssay(x[[images[[1L]]]])
  if (length(own) == 1L && own %in% known) own else SeuratObject::DefaultAssay(x)
}

#' A layer as genes × cells; of a layer that is split (`counts.1`, `counts.2`) all parts
#'
#' Parts are joined here, and the object stays as it is. A gene that a part does not have is 0 there.
#' @noRd
seurat_layer <- function(assay, layer, name, arg, call) {
  # Seurat 5 has layers, Seurat 4 had slots
  has_layers <- exists("LayerData", asNamespace("SeuratObject"))
  known <- if (has_layers) {
    getExportedValue("SeuratObject", "Layers")(assay)
  } else {
    c("counts", "data", "scale.data")
  }
  chosen <- if (layer %in% known) layer else known[startsWith(known, paste0(layer, "."))]
  if (identical(layer, "scale")) {
    chosen <- character()
  }
  if (length(chosen) == 0L) {
    abort_patina(
      c(
        "Assay {.val {name}} of {.arg {arg}} has no layer {.val {layer}}.",
        i = "Its layers are {.val {first_few(known, 10L)}}: choose one by {.arg layer}."
      ),
      class = "argument",
      call = call
    )
  }
  parts <- lapply(chosen, function(part) {
    values <- if (has_layers) {
      getExportedValue("SeuratObject", "LayerData")(assay, layer = part)
    } else {
      SeuratObject::GetAssayData(assay, slot = part)
    }
    known_class <- is.matrix(values) || methods::is(values, "Matrix") || inherits(values, "DelayedMatrix")
    # matrices on disk of the package BPCells
    if (known_class) values else methods::as(values, "dgCMatrix")
  })
  if (length(parts) == 1L) {
    return(parts[[1L]])
  }
  genes <- unique(unlist(lapply(parts, rownames)))
  joined <- do.call(cbind, lapply(parts, with_genes, genes = genes))
  # in the order of the object
  joined[, intersect(colnames(assay), colnames(joined)), drop = FALSE]
}

#' A matrix with these rows, those that it does not have empty
#' @noRd
with_genes <- function(values, genes) {
  if (identical(rownames(values), genes)) {
    return(as_dgc(methods::as(values, "CsparseMatrix")))
  }
  values <- methods::as(methods::as(values, "CsparseMatrix"), "TsparseMatrix")
  Matrix::sparseMatrix(
    i = match(rownames(values), genes)[values@i + 1L],
    j = values@j + 1L,
    x = as.double(values@x),
    dims = c(length(genes), ncol(values)),
    dimnames = list(genes, colnames(values))
  )
}

#' Where cells are
#'
#' @returns A data.frame: `cell`, `image` (a factor), and the coordinates; `NULL` without images.
#' @noRd
seurat_places <- function(x, images, cells, call) {
  if (length(images) == 0L) {
    return(NULL)
  }
  places <- lapply(images, function(image) {
    table <- image_places(x[[image]])
    data.frame(cell = table$cell, image = rep(image, nrow(table)), table[-1L])
  })
  dimensions <- vapply(places, ncol, 0L)
  if (length(unique(dimensions)) > 1L) {
    abort_patina(
      "The images {.val {first_few(images)}} have different numbers of coordinates: choose by {.arg image}.",
      class = "coords",
      call = call
    )
  }
  names <- names(places[[1L]])
  places <- do.call(rbind, lapply(places, stats::setNames, names))
  places <- places[places$cell %in% cells, ]
  # an image may be a part of another one, enlarged
  again <- duplicated(places$cell)
  if (any(again)) {
    inform_patina(
      "{sum(again)} cell{?s} {?is/are} in more than one image: {?it is/they are} taken from the first of
        {.val {first_few(images)}}; {.arg image} chooses."
    )
    places <- places[!again, ]
  }
  left_out <- length(cells) - nrow(places)
  if (left_out > 0L) {
    inform_patina("{left_out} cell{?s} of {length(cells)} {?is/are} in no image and left out.")
  }
  places$image <- factor(places$image, intersect(images, places$image))
  places
}

#' Cells of one image and their coordinates, in full resolution
#' @noRd
image_places <- function(image) {
  table <- if (inherits(image, c("VisiumV1", "VisiumV2"))) {
    SeuratObject::GetTissueCoordinates(image, scale = NULL)
  } else if (inherits(image, "FOV") && "centroids" %in% SeuratObject::Boundaries(image)) {
    SeuratObject::GetTissueCoordinates(image, which = "centroids")
  } else {
    SeuratObject::GetTissueCoordinates(image)
  }
  table <- as.data.frame(table)
  named <- intersect(c("cell", "cells"), names(table))
  cell <- if (length(named) > 0L) as.character(table[[named[[1L]]]]) else rownames(table)
  axes <- if (all(c("imagecol", "imagerow") %in% names(table))) {
    c("imagecol", "imagerow")
  } else if (all(c("x", "y") %in% names(table))) {
    intersect(c("x", "y", "z"), names(table))
  } else {
    names(table)[vapply(table, is.numeric, NA)]
  }
  places <- table[axes]
  # a cell's outline has many corners
  if (anyDuplicated(cell) > 0L) {
    places <- as.data.frame(rowsum(places, cell) / as.vector(table(cell)))
    cell <- rownames(places)
  }
  data.frame(cell = cell, unname_rows(places))
}
