// Where the page begins: the model, the key, and the two halves of the page.

import { getJson, storedKey, storeKey } from "./api.js";
import { ClusterView } from "./cluster.js";
import { byId, show } from "./dom.js";
import { Playground } from "./playground.js";

let model = "";
let retry = null;
const cluster = new ClusterView();
new Playground(() => model, askForKey);

async function look() {
  clearTimeout(retry);
  let denied = false;
  try {
    const served = (await getJson("v1/models")).data[0];
    model = served?.id ?? "";
    byId("model").textContent = model
      ? `${model}, context of ${show.count(served.max_model_len)} tokens`
      : "no target has been reached yet";
  } catch (error) {
    denied = error.status === 401;
    byId("model").textContent = denied ? "needs an API key" : "not reachable";
    if (denied) askForKey();
  }
  byId("send").disabled = !model;
  cluster.wake();
  if (!model && !denied) retry = setTimeout(look, 3000);
}

function askForKey() {
  byId("access").open = true;
  byId("key").focus();
}

byId("key").value = storedKey();
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  storeKey(byId("key").value.trim());
  byId("access").open = false;
  look();
});
byId("forget").addEventListener("click", () => {
  storeKey("");
  byId("key").value = "";
  look();
});
look();
