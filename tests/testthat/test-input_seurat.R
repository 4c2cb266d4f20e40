skip_if_not_installed("SeuratObject")
tissue <- fake_tissue()
in_images <- colnames(tissue$counts)[4:64]
fields <- rep(c("fov1", "fov2"), c(29, 32))

# What the same tissue gives as a matrix.
as_matrix <- function(cells = in_images, sample_id = fields, ...) {
  spatial_test(tissue$counts[, cells], tissue$coords[cells, ], sample_id = sample_id, threads = 1, ...)
}

test_that("a Seurat object gives the numbers of a matrix, its images are samples", {
  for (kind in seurat_kinds()) {
    object <- fake_seurat(kind)
    expect_message(results <- spatial_test(object, threads = 1), "3 cells of 64 are in no image")
    expect_identical(results, as_matrix())
    # one image; by either name
    one <- as_matrix(in_images[30:61], NULL)
    expect_identical(suppressMessages(spatial_test(object, image = "fov2", threads = 1)), one)
    expect_identical(suppressMessages(spatial_test(object, fov = "fov2", threads = 1)), one)
    # cells of the meta data's table of coordinates need no image
    object$px <- tissue$coords$x
    object$py <- tissue$coords$y
    expect_identical(
      spatial_test(object, c("px", "py"), threads = 1)$pval,
      as_matrix(colnames(tissue$counts), NULL)$pval
    )
    expect_error(spatial_test(object, image = "slice9"), "fov1.*fov2", class = "patina_error_argument")
    expect_error(spatial_test(object, assay = "RNA"), "Xenium", class = "patina_error_argument")
    expect_error(spatial_test(object, layer = "raw"), "counts", class = "patina_error_argument")
    expect_error(spatial_test(fake_seurat(kind, FALSE)), "coords", class = "patina_error_coords")
    # every verb
    suppressMessages({
      expect_identical(
        model_search(object, results[1:2, ], threads = 1)$model,
        model_search(
          tissue$counts[, in_images],
          tissue$coords[in_images, ],
          results[1:2, ],
          sample_id = fields,
          threads = 1
        )$model
      )
      patterns <- spatial_patterns(
        object,
        genes = c("Slope", "Stripe"),
        n_patterns = 2,
        lengthscale = 3,
        threads = 1
      )
      expect_identical(levels(patterns$patterns$sample), c("fov1", "fov2"))
      expect_draws(plot_genes(object, results[1:2, ]))
    })
  }
})

test_that("other layers, assays and covariates are taken from the object", {
  for (kind in seurat_kinds()) {
    object <- fake_seurat(kind)
    half <- Matrix::Matrix(tissue$counts / 2, sparse = TRUE)
    if (kind == "Assay5") {
      object <- SeuratObject::SetAssayData(object, layer = "data", new.data = half)
    } else {
      object <- suppressWarnings(SeuratObject::SetAssayData(object, slot = "data", new.data = half))
    }
    object$side <- rep(c("left", "right"), 32)
    got <- suppressMessages(spatial_test(
      object,
      layer = "data",
      normalization = "none",
      covariates = ~side,
      threads = 1
    ))
    expected <- spatial_test(
      tissue$counts[, in_images] / 2,
      tissue$coords[in_images, ],
      sample_id = fields,
      normalization = "none",
      covariates = ~side,
      sample_info = data.frame(side = rep(c("left", "right"), 32)[4:64]),
      threads = 1
    )
    expect_identical(got, expected)
    # the images' own assay, whatever the default one is after normalisation
    second <- SeuratObject::CreateAssayObject(counts = half)
    object[["SCT"]] <- second
    SeuratObject::DefaultAssay(object) <- "SCT"
    expect_identical(suppressMessages(spatial_test(object, threads = 1)), as_matrix())
  }
})

test_that("cells are placed by the column cell, by centroids, and once", {
  object <- fake_seurat()
  # a field of view whose outlines are the default, and cells in another order than the object's
  cells <- rev(in_images[1:40])
  centre <- data.frame(x = tissue$coords[cells, "x"], y = tissue$coords[cells, "y"], cell = cells)
  corners <- centre[rep(seq_along(cells), each = 4), ]
  corners$x <- corners$x + c(-0.2, 0.3, 0.2, -0.2)
  corners$y <- corners$y + c(-0.2, -0.2, 0.2, 0.3)
  outlines <- SeuratObject::CreateSegmentation(corners)
  object[["zoom"]] <- SeuratObject::CreateFOV(
    list(segmentation = outlines, centroids = SeuratObject::CreateCentroids(centre)),
    assay = "Xenium",
    key = "zoom_"
  )
  alone <- suppressMessages(spatial_test(object, image = "zoom", threads = 1))
  expect_identical(alone, as_matrix(in_images[1:40], NULL))
  # all three: each cell is taken from the first
  expect_message(all <- spatial_test(object, threads = 1), "40 cells are in more than one image")
  expect_identical(all, as_matrix())
  # outlines alone: the mean of their corners
  object[["drawn"]] <- SeuratObject::CreateFOV(
    list(segmentation = outlines),
    assay = "Xenium",
    key = "drawn_"
  )
  input <- suppressMessages(as_input(object, from = list(image = "drawn")))
  expect_lt(max(abs(input$coords - as.matrix(tissue$coords[in_images[1:40], ]))), 0.15)
})

test_that("results go into the assay's meta features and the object's meta data", {
  for (kind in seurat_kinds()) {
    object <- fake_seurat(kind)
    results <- suppressMessages(spatial_test(object, threads = 1))
    added <- add_results(object, results, variable_features = 2)
    features <- added[["Xenium"]][[]]
    expect_identical(features$patina_pval, results$pval)
    expect_identical(rownames(features), results$gene)
    expect_identical(SeuratObject::VariableFeatures(added[["Xenium"]]), top_genes(results, 2)$gene)
    expect_identical(add_results(added, results)[["Xenium"]][[]], features)
    expect_identical(
      suppressMessages(add_spatial_test(object, threads = 1))[["Xenium"]][[]]$patina_qval,
      results$qval
    )
    some <- add_results(object, results, columns = c("fsv", "qval"))[["Xenium"]][[]]
    expect_identical(grep("^patina", names(some), value = TRUE), c("patina_fsv", "patina_qval"))
    patterns <- suppressMessages(spatial_patterns(
      object,
      genes = c("Slope", "Stripe"),
      n_patterns = 2,
      lengthscale = 3,
      threads = 1
    ))
    added <- add_results(added, patterns)
    values <- added[[]][in_images, "patina_pattern_1"]
    expect_identical(values, patterns$patterns$value[1:61])
    expect_true(all(is.na(added[[]][1:3, "patina_pattern_1"])))
    expect_identical(sum(!is.na(added[["Xenium"]][[]]$patina_pattern)), 2L)
    expect_error(add_results(object, results, variables = 2), class = "patina_error_argument")
    expect_error(add_results(object, results, columns = "padj"), "padj", class = "patina_error_argument")
  }
})

# Split layers came with version 5 of SeuratObject.
if (has_assay5()) {
  test_that("layers that are split are joined as they are read", {
    object <- fake_seurat("Assay5")
    expected <- suppressMessages(spatial_test(object, threads = 1))
    object[["Xenium"]] <- split(object[["Xenium"]], f = rep(c("b", "a"), 32))
    expect_setequal(SeuratObject::Layers(object), c("counts.a", "counts.b"))
    expect_identical(suppressMessages(spatial_test(object, threads = 1)), expected)
    # merged objects need not have the same genes
    first <- SeuratObject::CreateSeuratObject(Matrix::Matrix(tissue$counts[1:3, 1:32], sparse = TRUE))
    second <- SeuratObject::CreateSeuratObject(Matrix::Matrix(tissue$counts[2:4, 33:64], sparse = TRUE))
    merged <- merge(first, second)
    counts <- tissue$counts
    counts[1, 33:64] <- 0
    counts[4, 1:32] <- 0
    input <- as_input(merged, tissue$coords)
    order <- match(input$genes, rownames(counts))
    expect_equal(input_block(input, 1:4), unname(t(counts[order, ])))
  })
}

# What Seurat's own search could not do ------------------------------------------------------------

test_that("an object of several fields with the columns x, y and cell is searched", {
  # the coordinates' row names are numbers, and each image has only some of the cells
  object <- fake_seurat(utils::tail(seurat_kinds(), 1L))
  places <- SeuratObject::GetTissueCoordinates(object[["fov1"]])
  expect_false(any(rownames(places) %in% colnames(object)))
  expect_lt(nrow(places), ncol(object))
  results <- suppressMessages(spatial_test(object, threads = 1))
  expect_identical(results$status[results$gene == "Slope"], "ok")
})

test_that("results of all genes are stored and are had back in order, whatever the assay's class", {
  for (kind in seurat_kinds()) {
    object <- suppressMessages(add_spatial_test(fake_seurat(kind), threads = 1, variable_features = TRUE))
    features <- object[["Xenium"]][[]]
    ranked <- rownames(features)[order(features$patina_rank, na.last = NA)]
    expect_setequal(ranked, c("Slope", "Stripe", "Noise"))
    expect_identical(ranked, rownames(features)[order(features$patina_pval, na.last = NA)])
    expect_identical(
      SeuratObject::VariableFeatures(object[["Xenium"]]),
      intersect(ranked, rownames(features)[which(features$patina_qval < 0.05)])
    )
  }
})

# Objects of the package Seurat itself: Visium of both kinds and Slide-seq; counts in the assay "Spatial".
seurat_slide <- function(kind, assay) {
  seurat <- function(name) getExportedValue("Seurat", name)
  class <- function(name) methods::getClass(name, where = asNamespace("Seurat"))
  counts <- Matrix::Matrix(tissue$counts, sparse = TRUE)
  withr::local_options(Seurat.object.assay.version = if (assay == "Assay5") "v5" else "v3")
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts, assay = "Spatial"))
  # the image has its spots in an order of its own
  cells <- rev(colnames(counts))
  places <- tissue$coords[cells, c("x", "y")]
  picture <- array(0.5, c(10L, 10L, 3L))
  factors <- seurat("scalefactors")(spot = 0.5, fiducial = 0.7, hires = 1, lowres = 0.1)
  image <- switch(
    kind,
    VisiumV1 = methods::new(
      class("VisiumV1"),
      image = picture,
      scale.factors = factors,
      coordinates = data.frame(
        tissue = 1L,
        row = seq_along(cells),
        col = seq_along(cells),
        imagerow = places$y,
        imagecol = places$x,
        row.names = cells
      ),
      spot.radius = 0.1,
      assay = "Spatial",
      key = "slice1_"
    ),
    VisiumV2 = {
      field <- SeuratObject::CreateFOV(
        data.frame(x = places$x, y = places$y, cell = cells),
        type = "centroids",
        radius = 0.5,
        assay = "Spatial",
        key = "slice1_"
      )
      methods::new(
        class("VisiumV2"),
        boundaries = field@boundaries,
        molecules = field@molecules,
        assay = "Spatial",
        key = "slice1_",
        image = picture,
        scale.factors = factors
      )
    },
    SlideSeq = methods::new(
      class("SlideSeq"),
      assay = "Spatial",
      key = "slice1_",
      coordinates = data.frame(x = places$x, y = places$y, row.names = cells)
    )
  )
  object[["slice1"]] <- image
  object
}

# What Seurat's own search leaves in an object, if it ends.
searched_by_seurat <- function(object) {
  seurat <- function(name) getExportedValue("Seurat", name)
  suppressMessages(suppressWarnings({
    object <- seurat("NormalizeData")(object, verbose = FALSE)
    object <- seurat("ScaleData")(object, features = rownames(object), verbose = FALSE)
    tryCatch(
      seurat("FindSpatiallyVariableFeatures")(
        object,
        assay = "Spatial",
        features = rownames(object),
        selection.method = "moransi",
        verbose = FALSE
      ),
      error = \(cnd) object
    )
  }))
}

test_that("Visium and Slide-seq objects give the numbers of a matrix, where Seurat's own search fails too", {
  skip_if_not_installed("Seurat")
  # the axes have names of their own in each kind
  numbers <- function(results) structure(results, patina = NULL)
  expected <- numbers(as_matrix(colnames(tissue$counts), NULL))
  for (assay in seurat_kinds()) {
    for (kind in c("VisiumV1", "SlideSeq", if (has_assay5()) "VisiumV2")) {
      object <- suppressWarnings(seurat_slide(kind, assay))
      results <- spatial_test(object, threads = 1)
      expect_identical(numbers(results), expected)
      # The calls that users report as failing: a search on an assay with layers, then asking for its genes
      # ("'layer' must be a single non-empty string", "undefined columns selected", "cannot xtfrm data
      # frames").
      # What is left in the object does not matter here, and the genes can be asked for.
      object <- searched_by_seurat(object)
      expect_identical(numbers(spatial_test(object, threads = 1)), expected)
      added <- add_results(object, results, variable_features = 3)
      expect_identical(SeuratObject::VariableFeatures(added[["Spatial"]]), top_genes(results, 3)$gene)
      expect_identical(added[["Spatial"]][[]]$patina_pval, results$pval)
    }
  }
})
