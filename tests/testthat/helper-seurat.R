# Seurat objects of the tissue of helper-results.R: SeuratObject 5 has Assay5 with layers, version 4 Assay
# with slots.
has_assay5 <- function() {
  rlang::is_installed("SeuratObject (>= 5.0.0)")
}

seurat_kinds <- function() {
  c("Assay", if (has_assay5()) "Assay5")
}

# Cells in two fields of view, in an order of their own, and three cells in none.
fake_seurat <- function(kind = "Assay", images = TRUE) {
  tissue <- fake_tissue()
  counts <- Matrix::Matrix(tissue$counts, sparse = TRUE)
  withr::local_options(Seurat.object.assay.version = if (kind == "Assay5") "v5" else "v3")
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts, assay = "Xenium"))
  if (images) {
    parts <- list(fov1 = 32:4, fov2 = 64:33)
    for (name in names(parts)) {
      cells <- colnames(counts)[parts[[name]]]
      places <- data.frame(x = tissue$coords[cells, "x"], y = tissue$coords[cells, "y"], cell = cells)
      object[[name]] <- SeuratObject::CreateFOV(
        SeuratObject::CreateCentroids(places),
        type = "centroids",
        assay = "Xenium",
        key = paste0(name, "_")
      )
    }
  }
  object
}
