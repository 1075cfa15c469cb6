"""What several test modules share.

Data:
  annotated_photos   small annotated photos and the content of COCO files
  batches            batches of the training data
  damaged_files      good pictures among damaged files, in every container
  labeled_sets       opening data sets with labels, and what they hold
  noise_pictures     pictures of noise, and sources of names alone
  sample_layouts     rendered photos as Market-1501, Clothing Co-Parsing, with depth, as recordings
  sample_photos      rendered photos as COCO, YOLO, Penn-Fudan, LSP, MPII ...; where real samples are
  toy_archives       small tar and zip archives
  toy_people         quick pictures with every label, in place of rendered people

Networks and training:
  coded_people       pictures that are numbers, and an encoder that reads them
  pyramid_laws       twins in timm for networks of stages, and the laws that they keep
  tiny_methods       MAE, DINO, CroCo, HAP and HCMoCo at toy size
  tiny_saip          SAIP at toy size; as a script it trains
  toy_finetune       fine-tuning at toy size
  toy_method         a method, its data and recipe for tests of the loop; as a script it trains
  toy_weights        weights at toy width and files of them
  trained_weights    a ViT-Ti with SAIP's heads as training leaves it, and every backbone alone

Runs and processes:
  docs_pages         the pages of the documentation taken apart
  docs_numbers       figures on pages, and the files that have them
  exports            the command `saip export` on given weights, images for it, ONNX files traced once
  golden             runs that earlier versions made
  kill_and_resume    kills a run at random moments, resumes and compares it
  notebooks          notebooks, executed by a kernel of a given interpreter
  package_index      packages in other versions than the installed ones
  processes          several processes on this machine
  report_page        a page of `saip report` taken apart
  toy_gcloud         plays gcloud
  toy_wandb          plays the package wandb, and the server that it sends to
  wandb_files        reads the files of Weights & Biases
"""
