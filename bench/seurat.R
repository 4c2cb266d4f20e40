# Time of patina beside Seurat's own search for spatial features, on the same Seurat object of a Visium slide.
#
#   Rscript bench/seurat.R
#
# Needs Seurat >= 5.2. Writes bench/results/seurat.csv: processor seconds of one call, from the object to a table.
# Seurat's are of its two statistics on scaled values, scaling included; they have no p-value (mark variogram) or one
# for each gene without a false discovery rate (Moran's I). Its assay is of the old class: on an assay with layers the
# search of Seurat 5.2 ends in an error.

suppressMessages({
  library(patina)
  library(Seurat)
})

slide <- function(n_spots, n_genes) {
  tissue <- example_tissue(n_spots, n_genes)
  options(Seurat.object.assay.version = "v3")
  object <- CreateSeuratObject(Matrix::Matrix(tissue$counts, sparse = TRUE), assay = "Spatial")
  places <- data.frame(tissue$sample_info[c("x", "y")], cell = colnames(tissue$counts))
  field <- CreateFOV(places, type = "centroids", radius = 0.5, assay = "Spatial", key = "slice1_")
  object[["slice1"]] <- methods::new(
    methods::getClass("VisiumV2", where = asNamespace("Seurat")),
    boundaries = field@boundaries,
    molecules = field@molecules,
    assay = "Spatial",
    key = "slice1_",
    image = array(0.5, c(10L, 10L, 3L)),
    scale.factors = scalefactors(spot = 1, fiducial = 1, hires = 1, lowres = 1)
  )
  object
}

by_seurat <- function(object, method) {
  object <- NormalizeData(object, verbose = FALSE)
  object <- ScaleData(object, features = rownames(object), verbose = FALSE)
  FindSpatiallyVariableFeatures(
    object,
    assay = "Spatial",
    features = rownames(object),
    selection.method = method,
    verbose = FALSE
  )
}

calls <- list(
  patina = \(object) spatial_test(object, threads = 1),
  "Seurat, moransi" = \(object) by_seurat(object, "moransi"),
  "Seurat, markvariogram" = \(object) by_seurat(object, "markvariogram")
)

sizes <- data.frame(spots = c(300, 1000, 3000), genes = 1000)
rows <- lapply(seq_len(nrow(sizes)), function(i) {
  object <- suppressWarnings(slide(sizes$spots[[i]], sizes$genes[[i]]))
  # the mark variogram takes 11 minutes at 1,000 spots already
  methods <- setdiff(names(calls), if (sizes$spots[[i]] > 1000) "Seurat, markvariogram")
  lapply(methods, function(method) {
    time <- suppressWarnings(suppressMessages(system.time(calls[[method]](object))))
    row <- data.frame(
      sizes[i, ],
      method,
      cpu_seconds = round(sum(time[c("user.self", "sys.self")]), 1),
      seconds = round(time[["elapsed"]], 1)
    )
    print(row)
    row
  })
})
script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
write.csv(
  do.call(rbind, unlist(rows, recursive = FALSE)),
  file.path(dirname(script), "results", "seurat.csv"),
  row.names = FALSE
)
