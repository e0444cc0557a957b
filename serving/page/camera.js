// A photograph: by the camera of this machine in a dialog, or on phones by their own camera app.
const dialog = document.getElementById("camera");
const video = dialog.querySelector("video");
const capture = document.getElementById("capture");

// Calls `add` with the files that are photographed after clicks on `button`.
export function offerPhotos(button, add) {
  const isPhone = matchMedia("(pointer: coarse)").matches;
  button.hidden = !isPhone && !navigator.mediaDevices; // which browsers have for https and this machine only
  button.addEventListener("click", () => (isPhone ? capture.click() : open(add)));
  capture.addEventListener("change", () => add([...capture.files]));
  dialog.querySelector("#take").addEventListener("click", () => take(add));
  dialog.addEventListener("close", () => video.srcObject.getTracks().forEach((track) => track.stop()));
}

async function open(add) {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    dialog.showModal();
  } catch {
    add([], "The camera cannot be used: allow it in the browser, and check that no other program has it.");
  }
}

function take(add) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const name = `photo ${new Date().toTimeString().slice(0, 8)}.jpg`;
  canvas.toBlob((blob) => add([new File([blob], name, { type: blob.type })]), "image/jpeg", 0.95);
}
